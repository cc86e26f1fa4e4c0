"""The parsers: mistakes as one line that says what to do, help in groups, defaults of a project."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gilscope.errors import UsageError

# What argparse says: what is said instead. A mistake that stands in neither is told as it is.
_SAID = (
    (r"unrecognized arguments: (.+)", "_not_known"),
    (r"the following arguments are required: (.+)", "_missing"),
    (r"one of the arguments (.+) is required", "_one_of"),
    (r"argument (.+?): expected (?:one|at least one|\d+) arguments?", "_no_value"),
    (r"argument (.+?): invalid choice: (.+?) \(choose from (.+)\)", "_no_such_choice"),
    (r"argument (.+?): invalid int value: (.+)", "_no_whole_number"),
    (r"argument (.+?): not allowed with argument (.+)", "_not_together"),
    (r"argument (.+?): ignored explicit argument (.+)", "_takes_nothing"),
    (r"argument (.+?): (.+)", "_of_one"),
)


class Parser(argparse.ArgumentParser):
    """Reports a mistake as one line, like every other error, instead of usage and a line."""

    def __init__(self, **options: object) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)  # type: ignore[arg-type]
        self.suggest_on_error = False  # argparse's own, since 3.14: in other words than ours

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        for pattern, name in _SAID:
            if match := re.fullmatch(pattern, message, re.DOTALL):
                message = getattr(self, name)(*match.groups())
                break
        raise UsageError(f"{message} (see `{self.prog} --help`)")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Help or version; argparse's own ends with 0 where they cannot be written."""
        file = file or sys.stdout
        file.write(message)
        file.flush()

    def _not_known(self, words: str) -> str:
        word = words.split(maxsplit=1)[0]
        if not word.startswith("-"):
            return f"{word} is one argument too many"
        option = word.partition("=")[0]
        names = [
            name
            for action in self._actions
            if action.help != argparse.SUPPRESS
            for name in action.option_strings
        ]
        return f"there is no option {option}{meant(option, names)}"

    def _missing(self, names: str) -> str:
        words = [_short(name) for name in names.split(", ")]
        return f"{listed(words, 'and')} {'is' if len(words) == 1 else 'are'} missing"

    def _one_of(self, names: str) -> str:
        return f"one of {listed([_short(name) for name in names.split()], 'and')} is missing"

    def _no_value(self, name: str) -> str:
        option = _short(name)
        for action in self._actions:
            if option in action.option_strings:
                metavar = action.metavar or "|".join(map(str, action.choices or ("VALUE",)))
                return f"{option} needs a value: {option} {metavar}"
        return f"{option} is missing"

    def _no_such_choice(self, name: str, given: str, choices: str) -> str:
        given = given.strip("'\"")
        words = [word.strip("'\"") for word in choices.split(", ")]
        hint = meant(given, words) or f"; there is {listed(words, 'and')}"
        if name.startswith("-"):
            return f"{_short(name)}: there is no {given}{hint}"
        return f"there is no {name.lower()} {given}{hint}"

    def _no_whole_number(self, name: str, given: str) -> str:
        return f"{_short(name)} takes a whole number, not {given}"

    def _not_together(self, name: str, other: str) -> str:
        return f"{_short(name)} and {_short(other)} cannot be given together"

    def _takes_nothing(self, name: str, given: str) -> str:
        return f"{_short(name)} takes no value; leave out {given}"

    def _of_one(self, name: str, what: str) -> str:
        return f"{_short(name)}: {what}"


def _short(name: str) -> str:
    """`-o` of argparse's `-o/--output`; a name of an argument as it is."""
    return name.partition("/")[0] if name.startswith("-") else name


def listed(words: Sequence[str], last: str) -> str:
    """`a, b and c`."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def meant(word: str, names: Iterable[str]) -> str:
    """`; did you mean NAME?`, or nothing where no name is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only after a mistake

    near = get_close_matches(word, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def take_settings(parser: argparse.ArgumentParser, settings: dict[str, Any], where: str) -> None:
    """Values of `[tool.gilscope.COMMAND]` become the defaults of the options of these names.

    Options that name a file to write stay the command line's. Raises UsageError, which names
    `where`, for a name that is no option and a value that the option does not take.
    """
    options = {
        name[2:]: action
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--")
        and action.help != argparse.SUPPRESS
        and action.dest != "help"
        and action.type is not Path
    }
    for name, value in settings.items():
        action = options.get(name)
        if action is None:
            raise UsageError(f"{where}: there is no setting {name}{meant(name, options)}")
        parser.set_defaults(**{action.dest: _value(parser, action, name, value, where)})


def _value(
    parser: argparse.ArgumentParser, action: argparse.Action, name: str, value: Any, where: str
) -> Any:
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UsageError(f"{where}: {name} is true or false, not {value!r}")
        return value
    if isinstance(value, (bool, dict, list)):
        raise UsageError(f"{where}: {name} takes one value, not {value!r}")
    if action.choices is not None and value not in action.choices:
        raise UsageError(
            f"{where}: {name} is {listed(list(map(str, action.choices)), 'or')}, not {value!r}"
        )
    take = action.type or str
    try:
        return take(str(value))  # type: ignore[operator]
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{where}: {name}: {error}") from error
    except ValueError as error:
        raise UsageError(f"{where}: {name}: not a number: {value}") from error
