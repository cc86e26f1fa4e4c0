"""What all parts of the page are laid out by: its width, its rows, and who is a row of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.console import RenderableType

from gilscope.analysis.names import names_of
from gilscope.safe_text import escaped
from gilscope.viewers.layout import Column, lines, table

Row = dict[str, Any]

UNKNOWN, ELLIPSIS = 3, 4  # their places among the glyphs
CULPRIT_SHARE = 0.1  # of all waiting, from which the thread that it was for has a row
SMALL = 0.01  # of the longest waiting, or of a waiter's, below which nothing is explained


@dataclass(frozen=True)
class Entry:
    """A thread, or threads that do the same: a row of the tables."""

    label: str
    row: Row  # a thread of the summary, or one of its groups
    threads: tuple[int, ...]  # ids
    uses_gil: bool = True


@dataclass(frozen=True)
class Entries:
    """All of a summary, those that waited longest first."""

    rows: list[Entry]
    names: dict[int, str]  # of single threads, by id
    culprit: int | None  # the thread that most of the waiting was for, if it is worth a row

    @cached_property
    def labels(self) -> dict[int, str]:
        """The label of the entry that a thread is of, by its id."""
        return {number: entry.label for entry in self.rows for number in entry.threads}


def each_thread(summary: Row) -> Entries:
    """A row for each thread."""
    threads = [thread for process in summary["processes"] for thread in process["threads"]]
    names = names_of(threads)
    threads.sort(key=lambda thread: (-thread["waiting_ns"], -thread["held_ns"]))
    rows = [Entry(names[t["id"]], t, (t["id"],), t["gil"] is not None) for t in threads]
    return Entries(rows, names, _culprit(summary))


def like_threads(summary: Row) -> Entries:
    """A row for threads that do the same."""
    threads = {thread["id"]: thread for p in summary["processes"] for thread in p["threads"]}
    names = names_of(threads.values())
    rows = []
    for group in summary["groups"]:
        ids = tuple(group["threads"])
        label = names[ids[0]]
        if len(ids) > 1:
            inside = f" in {group['processes']:,} processes" if group["processes"] > 1 else ""
            label = f"{escaped(group['name'])} ({len(ids):,}{inside})"
        uses_gil = any(threads[number]["gil"] is not None for number in ids)
        rows.append(Entry(label, group, ids, uses_gil))
    return Entries(rows, names, _culprit(summary))


def _culprit(summary: Row) -> int | None:
    made_wait: Counter[int] = Counter()
    waited = 0
    for process in summary["processes"]:
        for row in process["blame"]:
            waited += row["wait_ns"]
            if row["holder"] is not None:
                made_wait[row["holder"]] += row["wait_ns"]
    worst = max(made_wait, key=made_wait.__getitem__, default=None)
    return worst if worst is not None and made_wait[worst] >= CULPRIT_SHARE * waited else None


@dataclass(frozen=True)
class Page:
    """A layout: how many rows a table has at the most, and how many GILs, causes of a waiter and
    longest waits are told. `singles`: each thread is a row."""

    entries: Entries
    width: int
    glyphs: str
    top: int
    gils: int
    causes: int = 3
    stories: int = 3
    singles: bool = False

    @cached_property
    def shown(self) -> list[Entry]:
        """The rows of the tables of threads: who waited longest, and whom it was for."""
        rows = [entry for entry in self.entries.rows if entry.uses_gil]
        shown, rest = rows[: self.top], rows[self.top :]
        culprit = [entry for entry in rest if self.entries.culprit in entry.threads]
        return [*shown[: self.top - len(culprit)], *culprit]

    @property
    def names(self) -> dict[int, str]:
        """Of single threads, by id."""
        return self.entries.names

    def table(self, names: Column, others: Sequence[Column]) -> list[RenderableType]:
        """A table where there is room for one, else the same in sentences."""
        made = table(names, others, self.width, self.glyphs[ELLIPSIS])
        return [made] if made else list(lines(names, others))
