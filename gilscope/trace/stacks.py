"""Stacks of Python code: the table of a recording, and what to show of one.

A stack is a path in a tree, from its leaf's row in `Metadata.stacks` over the parents to the root.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gilscope.trace.limits import STACK_DEPTH, TEXT_BYTES
from gilscope.trace.schema import LookFrame, Stack

if TYPE_CHECKING:
    from numpy.typing import NDArray

# `struct gs_stack_row` of order.h.
ROW_DTYPE = np.dtype(
    [
        ("file", "<u8"),  # offset in the ring file
        ("function", "<u8"),
        ("file_bytes", "<u4"),
        ("function_bytes", "<u4"),
        ("parent", "<u4"),  # 1 + index of its row, 0: none
        ("line", "<i4"),
        ("process", "<u4"),
        ("reference", "<u4"),
    ]
)

_STANDARD = re.compile(r"^<frozen |/lib(?:32|64)?/python3\.\d+/(?!(?:site|dist)-packages/)")
_MANAGED = ("__enter__", "__exit__", "__aenter__", "__aexit__")
_BOOTSTRAP = "/threading.py"  # its folder is the library's, wherever that lies


class Site(NamedTuple):
    """Where a stack is, in two lines: the user's and, inside the library, the leaf's."""

    file: str
    line: int
    function: str
    library_line: str | None  # "re/__init__.py:166 match"; None: the leaf is the user's own


class Table:
    """The stacks of a ring file's nodes, equal ones once; it may get more nodes later."""

    def __init__(self) -> None:
        self.stacks: list[Stack] = []
        self.ids = np.zeros(0, np.uint32)  # of each node
        self._known: dict[tuple[int | None, str, str, int], int] = {}
        self._depths: list[int] = []  # of each stack
        self._in_library = Library()

    @property
    def n_nodes(self) -> int:
        """How many nodes were added."""
        return len(self.ids)

    def know(self, caller: int | None, file: str, function: str, line: int) -> None:
        """A stack that another table had next; its node comes again, or is gone."""
        number = len(self._known)
        self._known[caller, file, function, line] = number
        self._depths.append(1 if caller is None else self._depths[caller] + 1)
        self._in_library.learn([file])
        self.stacks.append(Stack(number, caller, file, function, line, self._in_library(file)))

    def add(self, rows: NDArray[np.void], data: bytes | memoryview) -> NDArray[np.uint32]:
        """Add nodes (ROW_DTYPE); their ids. `data` is the file.

        What is longer or deeper than the probe writes was damaged, and is cut.
        """
        texts: dict[tuple[int, int], str] = {}

        def text(offset: int, size: int) -> str:
            size = min(size, TEXT_BYTES)
            key = (offset, size)
            if key not in texts:
                texts[key] = bytes(data[offset : offset + size]).decode("utf-8", "replace")
            return texts[key]

        first, known = self.n_nodes, self._known
        self.ids = np.concatenate([self.ids, np.zeros(len(rows), np.uint32)])
        new = len(known)
        for index, row in enumerate(rows.tolist(), first):
            file, function, file_bytes, function_bytes, parent, line, _, _ = row
            caller = int(self.ids[parent - 1]) if parent else None
            if caller is not None and self._depths[caller] == STACK_DEPTH:
                caller = None
            key = (caller, text(file, file_bytes), text(function, function_bytes), line)
            self.ids[index] = number = known.setdefault(key, len(known))
            if number == len(self._depths):
                self._depths.append(1 if caller is None else self._depths[caller] + 1)
        keys = list(known)[new:] if len(known) > new else []
        self._in_library.learn(file for _, file, _, _ in keys)
        for caller, file, function, line in keys:
            self.stacks.append(
                Stack(len(self.stacks), caller, file, function, line, self._in_library(file))
            )
        return self.ids[first:]


def table(
    rows: NDArray[np.void], data: bytes | memoryview
) -> tuple[list[Stack], NDArray[np.uint32]]:
    """The stacks of a ring file's nodes (ROW_DTYPE), equal ones once, and the id of each node.

    `data` is the file.
    """
    made = Table()
    ids = made.add(rows, data)
    return made.stacks, ids


class Library:
    """Whether a file belongs to Python's standard library, by where it lies."""

    def __init__(self) -> None:
        self._folders: tuple[str, ...] = ()

    def learn(self, files: Iterable[str]) -> None:
        """Where the library lies shows at some of its files."""
        found = {os.path.dirname(file) + "/" for file in files if file.endswith(_BOOTSTRAP)}
        self._folders = (*self._folders, *sorted(found.difference(self._folders)))

    def __call__(self, file: str) -> bool:
        """Whether this file does."""
        if _STANDARD.search(file):
            return True
        third = "/site-packages/" in file or "/dist-packages/" in file
        return not third and file.startswith(self._folders)


def path(stacks: Sequence[Stack], leaf: int) -> list[Stack]:
    """The rows of a stack, leaf first."""
    rows = []
    at: int | None = leaf
    while at is not None:
        rows.append(stacks[at])
        at = stacks[at].parent
    return rows


def site(stacks: Sequence[Stack], leaf: int) -> Site:
    """The innermost frame outside the standard library, or the leaf where there is none.

    The code of a context manager that is a generator is the library's, too: its user's `with` runs
    it.
    """
    first = stacks[leaf]
    own = _outside_library(stacks, first) or first
    while _is_manager(stacks, own) and (user := _outside_library(stacks, _caller(stacks, own))):
        own = user
    inside = None if own is first else where(first)
    return Site(own.file, own.line, own.function, inside)


def _caller(stacks: Sequence[Stack], row: Stack) -> Stack | None:
    return None if row.parent is None else stacks[row.parent]


def _outside_library(stacks: Sequence[Stack], row: Stack | None) -> Stack | None:
    while row and row.library:
        row = _caller(stacks, row)
    return row


def _is_manager(stacks: Sequence[Stack], row: Stack) -> bool:
    caller = _caller(stacks, row)
    return bool(
        caller and caller.file.endswith("/contextlib.py") and caller.function.endswith(_MANAGED)
    )


def where(row: Stack | LookFrame, folders: int = 2) -> str:
    """In short: `app/image.py:17 blur`, with the last `folders` parts of the path."""
    file = "/".join(row.file.rsplit("/", folders)[-folders:]) or "?"
    line = f":{row.line}" if row.line else ""
    return f"{file}{line} {row.function}".rstrip()


def shortest_paths(files: Iterable[str]) -> dict[str, str]:
    """The last parts of each path, as few as tell it from the others."""
    left = {file: file.split(os.sep) for file in files}
    short: dict[str, str] = {}
    parts = 1
    while left:
        ends = {file: os.sep.join(words[-parts:]) for file, words in left.items()}
        count = Counter(ends.values())
        done = {f: end for f, end in ends.items() if count[end] == 1 or parts >= len(left[f])}
        short |= done
        left = {file: words for file, words in left.items() if file not in done}
        parts += 1
    return short
