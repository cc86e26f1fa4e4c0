"""`[tool.gilscope]` of the project's pyproject.toml, the first one upwards from here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gilscope.errors import InstallationError, UsageError

if TYPE_CHECKING:
    from gilscope.analysis.bounds import Bound

NAME = "pyproject.toml"


def find() -> Path | None:
    """The file's path, or None."""
    try:
        here = Path.cwd()
        return next(
            (file for folder in (here, *here.parents) if (file := folder / NAME).is_file()), None
        )
    except OSError:  # the folder is gone, or is not to be looked into
        return None


def settings(part: str) -> dict[str, Any]:
    """`[tool.gilscope.PART]`, empty where there is none. Raises UsageError for what is no TOML."""
    file = find()
    try:
        text = file.read_text(encoding="utf-8") if file else ""
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from error
    if "gilscope" not in text:  # whether the rest of the file is well made is not our matter
        return {}
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415 - only for who asks
    else:
        import tomli as tomllib  # noqa: PLC0415 - the same library under its older name

    try:
        whole = tomllib.loads(text)
    except ValueError as error:
        raise UsageError(f"{file}: cannot be read ({error})") from error
    table: dict[str, Any] = whole
    for key in ("tool", "gilscope", part):
        table = table.get(key, {})
        if not isinstance(table, dict):
            raise UsageError(f"{file}: [tool.gilscope.{part}] is no table")
    return table


def defaults(command: str) -> tuple[dict[str, Any], str]:
    """The settings of a command, and where they stand, for messages. Raises UsageError."""
    found = settings(command)
    return found, f"{find()}, [tool.gilscope.{command}]" if found else ""


def bounds() -> list[Bound]:
    """Those of `max = {"METRIC[@THREAD]" = VALUE}` in `[tool.gilscope.check]`."""
    from gilscope.analysis.bounds import named  # noqa: PLC0415

    table = settings("check").get("max", {})
    if not isinstance(table, dict):
        raise UsageError(f"{NAME}: max in [tool.gilscope.check] is no table")
    return [named(name, value) for name, value in table.items()]


def write_bounds(made: Sequence[Bound]) -> Path:
    """Put them into `[tool.gilscope.check.max]`, the rest of the file as it was; returns which."""
    try:
        import tomlkit  # noqa: PLC0415 - only for --update
    except ImportError as error:
        raise InstallationError(
            "--update needs tomlkit, which writes TOML: pip install 'gilscope[check]'"
        ) from error
    file = find() or Path(NAME)
    document = tomlkit.parse(file.read_text(encoding="utf-8") if file.exists() else "")
    table: Any = document
    for key in ("tool", "gilscope", "check", "max"):
        table = table.setdefault(key, tomlkit.table(is_super_table=key in ("tool", "gilscope")))
    for bound in made:
        whole = bound.most == int(bound.most)
        table[bound.name] = int(bound.most) if whole else bound.most
    part = file.with_name(f".{NAME}.{os.getpid()}.part")
    try:
        part.write_text(tomlkit.dumps(document), encoding="utf-8")
        os.replace(part, file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"{file}: {error.strerror}") from error
    return file
