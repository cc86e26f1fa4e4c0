"""The programs of the corpus, the truth that stands in each, and how a verdict is judged by it."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from gilscope.analysis.finding import KINDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
PROGRAMS, SEALED = HERE / "programs", HERE / "sealed"
MARK = "# CULPRIT"

RIGHT, WRONG, MISSED, FALSE_ALARM, FAILED = "right", "wrong", "missed", "false alarm", "failed"
OUTCOMES = (RIGHT, WRONG, MISSED, FALSE_ALARM, FAILED)
SILENT = {"nothing"}  # kinds that say that nothing is wrong

_HEADER = re.compile(r"^# /// verdict\n(?P<toml>(?:#.*\n)*?)# ///$", re.MULTILINE)
_FIELDS = {"kind", "thread", "value_ms", "site", "python", "arguments", "options", "ci"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """A program and what is true of it."""

    name: str
    path: Path  # what is run
    truth: Row

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of which the first finding may be."""
        return _several(self.truth["kind"])

    @property
    def least_python(self) -> tuple[int, ...]:
        """The version from which on it runs."""
        return tuple(map(int, self.truth.get("python", "3.9").split(".")))

    @cached_property
    def culprits(self) -> set[tuple[str, int]]:
        """File name and line of each line that is marked."""
        files = self.path.parent.rglob("*.py") if self.path.name == "main.py" else [self.path]
        return {
            (str(file), number)
            for file in files
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
            if line.endswith(MARK)
        }


def programs(folder: Path) -> list[Program]:
    """Of a folder: `NAME.py`, or `NAME/main.py`. Raises ValueError for one without a truth."""
    paths = sorted([*folder.glob("*.py"), *folder.glob("*/main.py")])
    return [_program(path) for path in paths]


def _program(path: Path) -> Program:
    name = path.parent.name if path.name == "main.py" else path.stem
    header = _HEADER.search(path.read_text(encoding="utf-8"))
    if not header:
        raise ValueError(f"{path}: no block `# /// verdict`")
    lines = [line.removeprefix("#").strip() for line in header["toml"].splitlines()]
    truth = tomllib.loads("\n".join(lines))
    if unknown := truth.keys() - _FIELDS:
        raise ValueError(f"{path}: no such field: {', '.join(sorted(unknown))}")
    if strange := set(_several(truth["kind"])) - set(KINDS):
        raise ValueError(f"{path}: no such kind: {', '.join(sorted(strange))}")
    return Program(name, path, truth)


def _several(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def judge(program: Program, summary: Row, load: int = 0) -> tuple[str, str]:
    """The outcome, and why. `load`: how many others computed beside it."""
    first = summary["findings"][0]
    kind = first["kind"]
    if load and kind == "no-processor":
        return RIGHT, "others had the processors"
    if kind not in program.kinds:
        quiet = FALSE_ALARM if set(program.kinds) & SILENT else WRONG
        return MISSED if kind in SILENT else quiet, f"{kind}: {first['text']}"
    if kind in SILENT:
        return RIGHT, ""
    wrong = (
        _thread(program, first, summary) or _site(program, first) or _value(program, first, load)
    )
    return (WRONG, f"{wrong}: {first['text']}") if wrong else (RIGHT, "")


def _thread(program: Program, finding: Row, summary: Row) -> str:
    patterns = _several(program.truth.get("thread", []))
    threads = {t["id"]: t["name"] for p in summary["processes"] for t in p["threads"]}
    name = threads.get(finding["thread"], "none")
    if patterns and not any(fnmatchcase(name, pattern) for pattern in patterns):
        return f"thread {name}, not {' or '.join(patterns)}"
    return ""


def _site(program: Program, finding: Row) -> str:
    site = finding["site"]
    if finding["kind"] == "no-processor":
        return ""  # it has none at any line
    told = f"{site['file']}:{site['line']} {site['function']}" if site else "none"
    pattern = program.truth.get("site")
    if pattern and fnmatchcase(told, pattern):
        return ""
    if site and (site["file"], site["line"]) in program.culprits:
        return ""
    right = [pattern] * bool(pattern) + [str(line) for _, line in sorted(program.culprits)]
    return f"site {told}, not {' or '.join(right)}" if right else ""


def _value(program: Program, finding: Row, load: int) -> str:
    least, most = program.truth.get("value_ms", (0, None))
    value = (finding["value_ns"] or 0) / 1e6
    if value < least or (most is not None and value > most * (1 + load)):
        return f"{value:.0f} ms, not {least} to {most}"
    return ""
