"""Stacks of Python code: the table of a recording, and what to show of one.

A stack is a path in a tree, from its leaf's row in `Metadata.stacks` over the parents to the root.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gilscope.trace.limits import STACK_DEPTH, TEXT_BYTES
from gilscope.trace.schema import Stack

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
_BOOTSTRAP = "/threading.py"  # its folder is the library's, wherever that lies


class Site(NamedTuple):
    """Where a stack is, in two lines: the user's and, inside the library, the leaf's."""

    file: str
    line: int
    function: str
    library_line: str | None  # "re/__init__.py:166 match"; None: the leaf is the user's own


def table(
    rows: NDArray[np.void], data: bytes | memoryview
) -> tuple[list[Stack], NDArray[np.uint32]]:
    """The stacks of a ring file's nodes (ROW_DTYPE), equal ones once, and the id of each node.

    `data` is the file. What is longer or deeper than the probe writes was damaged, and is cut.
    """
    texts: dict[tuple[int, int], str] = {}

    def text(offset: int, size: int) -> str:
        size = min(size, TEXT_BYTES)
        key = (offset, size)
        if key not in texts:
            texts[key] = bytes(data[offset : offset + size]).decode("utf-8", "replace")
        return texts[key]

    ids = np.zeros(len(rows), np.uint32)
    known: dict[tuple[int | None, str, str, int], int] = {}
    depths: list[int] = []  # by id
    for index, (file, function, file_bytes, function_bytes, parent, line, _, _) in enumerate(
        rows.tolist()
    ):
        caller = int(ids[parent - 1]) if parent else None
        if caller is not None and depths[caller] == STACK_DEPTH:
            caller = None
        key = (caller, text(file, file_bytes), text(function, function_bytes), line)
        ids[index] = number = known.setdefault(key, len(known))
        if number == len(depths):
            depths.append(1 if caller is None else depths[caller] + 1)
    in_library = _Library(file for _, file, _, _ in known)
    stacks = [
        Stack(index, caller, file, function, line, in_library(file))
        for (caller, file, function, line), index in known.items()
    ]
    return stacks, ids


class _Library:
    """Whether a file belongs to Python's standard library, by where it lies."""

    def __init__(self, files: Iterable[str]) -> None:
        self._folders = tuple({os.path.dirname(f) + "/" for f in files if f.endswith(_BOOTSTRAP)})

    def __call__(self, file: str) -> bool:
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
    """The innermost frame outside the standard library, or the leaf where there is none."""
    own = first = stacks[leaf]
    while own.library and own.parent is not None:
        own = stacks[own.parent]
    if own.library:
        own = first
    inside = None if own is first else where(first)
    return Site(own.file, own.line, own.function, inside)


def where(row: Stack, folders: int = 2) -> str:
    """In short: `app/image.py:17 blur`, with the last `folders` parts of the path."""
    file = "/".join(row.file.rsplit("/", folders)[-folders:]) or "?"
    line = f":{row.line}" if row.line else ""
    return f"{file}{line} {row.function}".rstrip()
