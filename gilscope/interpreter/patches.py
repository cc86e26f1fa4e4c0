"""Applies a series of unified diffs, exactly or not at all.

`patch` would do, but it guesses: it drops lines of context that do not match, and leaves a tree
half patched. Here a hunk stands where it says, or else at the only place in its file that has all
its lines; files are written when the whole series fits. A patch changes, makes or deletes text
files; it renames none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from gilscope.errors import BuildError

_RANGE = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_NOTHING = "/dev/null"


@dataclass(frozen=True)
class Patch:
    """One file of a series."""

    name: str
    lines: list[str]


@dataclass
class _Hunk:
    line: int  # of the old file where `old` begins, from 0
    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)


@dataclass
class _Change:
    path: str
    makes: bool  # the file is new
    deletes: bool
    hunks: list[_Hunk] = field(default_factory=list)


class _DoesNotFit(Exception):
    """Why, in words that follow a patch's name."""


def series(folder: Path) -> list[Patch]:
    """The patches that `series` in the folder lists, one name a line; `#` begins a comment.

    Raises BuildError when one of them is missing.
    """
    try:
        lines = (line.strip() for line in _read(folder / "series"))
        return [
            Patch(name, _read(folder / name)) for name in lines if name and not name.startswith("#")
        ]
    except OSError as error:
        raise BuildError(f"a patch is missing: {error.filename}; reinstall gilscope") from error


def apply(patches: list[Patch], tree: Path) -> None:
    """Apply them in order. Raises BuildError, the tree untouched, when one does not fit."""
    files: dict[str, list[str] | None] = {}  # what becomes of a path; None: there is no such file
    for patch in patches:
        try:
            for change in _parse(patch.lines):
                if change.path not in files:
                    path = tree / change.path
                    files[change.path] = _read(path) if path.is_file() else None
                files[change.path] = _changed(change, files[change.path])
        except _DoesNotFit as why:
            raise BuildError(
                f"the patch {patch.name} does not apply, {why}: is it made for another version?"
            ) from why
    for name, lines in files.items():
        path = tree / name
        if lines is None:
            path.unlink(missing_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.writelines(lines)


def _read(path: Path) -> list[str]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return list(file)


def _changed(change: _Change, lines: list[str] | None) -> list[str] | None:
    """The file's lines after the change; None: no file."""
    if change.makes != (lines is None):
        raise _DoesNotFit(f"{change.path} {'is missing' if lines is None else 'exists already'}")
    result: list[str] = []
    rest = lines or []
    done = 0  # lines of the old file that are in `result` already, changed or not
    shift = 0  # by how much the last hunk stood elsewhere than it said
    for hunk in change.hunks:
        at = _find(change, hunk, rest, done, shift)
        shift = at - hunk.line
        result += rest[done:at] + hunk.new
        done = at + len(hunk.old)
    result += rest[done:]
    if change.deletes and result:
        raise _DoesNotFit(f"{change.path} has more lines than it deletes")
    return None if change.deletes else result


def _find(change: _Change, hunk: _Hunk, lines: list[str], done: int, shift: int) -> int:
    """The index in `lines` where the hunk belongs."""
    if change.makes:
        return 0
    length = len(hunk.old)
    fits = [
        at for at in range(done, len(lines) - length + 1) if lines[at : at + length] == hunk.old
    ]
    for at in (hunk.line + shift, hunk.line):
        if at in fits:
            return at
    if len(fits) == 1:
        return fits[0]
    what = f"fits {len(fits)} places of" if fits else "finds its lines nowhere in"
    raise _DoesNotFit(f"its hunk for line {hunk.line + 1} {what} {change.path}")


def _parse(lines: list[str]) -> list[_Change]:
    """The changes of a patch; text around them (its message, a mail's signature) is passed over."""
    changes: list[_Change] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(("rename ", "copy ", "GIT binary patch", "Binary files ")):
            raise _DoesNotFit(f"it has a line that is no change of text: {line.strip()!r}")
        if line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            changes.append(_change(line, lines[at + 1]))
            at += 2
        elif line.startswith("@@ "):
            if not changes:
                raise _DoesNotFit("a hunk stands before the name of its file")
            hunk, at = _hunk(lines, at, changes[-1])
            changes[-1].hunks.append(hunk)
        else:
            at += 1
    if not any(change.hunks for change in changes):
        raise _DoesNotFit("it changes nothing")
    return changes


def _change(before: str, after: str) -> _Change:
    """What the two lines with a file's name say."""
    old, new = (line[4:].split("\t")[0].strip() for line in (before, after))
    names = {name.partition("/")[2] for name in (old, new) if name != _NOTHING}
    path = PurePosixPath(names.pop() if len(names) == 1 else "")
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise _DoesNotFit(f"it names no file of the tree: {old} {new}")
    return _Change(str(path), makes=old == _NOTHING, deletes=new == _NOTHING)


def _hunk(lines: list[str], at: int, change: _Change) -> tuple[_Hunk, int]:
    """The hunk that begins at lines[at], and the index of the line after it."""
    header = _RANGE.match(lines[at])
    if header is None:
        raise _DoesNotFit(f"a hunk begins with {lines[at].strip()!r}")
    line, *counts = (1 if number is None else int(number) for number in header.groups())
    hunk = _Hunk(line - 1)
    at += 1
    while [len(hunk.old), len(hunk.new)] != counts:
        kind, rest = (lines[at][:1], lines[at][1:]) if at < len(lines) else ("", "")
        if kind not in (" ", "-", "+"):
            raise _DoesNotFit(f"its hunk for line {line} of {change.path} ends early")
        if kind != "+":
            hunk.old.append(rest)
        if kind != "-":
            hunk.new.append(rest)
        at += 1
        if at < len(lines) and lines[at].startswith("\\"):  # \ No newline at end of file
            for side in (hunk.old if kind != "+" else [], hunk.new if kind != "-" else []):
                if side:
                    side[-1] = side[-1].removesuffix("\n")
            at += 1
    if not hunk.old and not change.makes:
        raise _DoesNotFit(f"its hunk for line {line} of {change.path} has no line of context")
    return hunk, at
