"""Threads that do the same as one row: what a report shows, whatever the number of threads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.analysis.names import names_of
from gilscope.safe_text import escaped

if TYPE_CHECKING:
    from numpy.typing import NDArray

Row = dict[str, Any]

PARTS = ("held", "waiting", "outside", "unknown")
# With the kernel's side: what a thread did while it held the GIL, or while it did neither.
STATES = ("running_ns", "preempted_ns", "off_ns")
LONGEST_LABEL = 60
# Vega keeps groups in plain JavaScript objects, which have these already.
_OF_EVERY_OBJECT = {
    *("constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString"),
    *("toString", "valueOf", "__defineGetter__", "__defineSetter__", "__lookupGetter__"),
    *("__lookupSetter__", "__proto__"),
}


@dataclass(frozen=True)
class Group:
    """A row of the summary's `groups`; no other group of the report has its label."""

    label: str
    row: Row
    threads: list[Row]  # of the summary

    @property
    def split(self) -> bool:
        """Whether it is known when all of them ran."""
        return all(
            (thread.get(side) or {}).get(state) is not None
            for thread in self.threads
            for side in ("held", "outside")
            for state in STATES
        )

    def parts(self) -> dict[str, int]:
        """Their lives in ns, by what they did."""
        parts: dict[str, int] = {}
        for part in PARTS:
            rest: int = self.row[f"{part}_ns"]
            if part in ("held", "outside") and self.split:
                for state in STATES:
                    label = f"{part}, {state.removesuffix('_ns')}"
                    parts[label] = sum(thread[part][state] for thread in self.threads)
                    rest -= parts[label]
            if rest > 0 or not self.split:
                parts[part] = rest
        return parts


@dataclass(frozen=True)
class Groups:
    """The groups of a trace that used a GIL, those first that waited longest.

    `of_thread` is the index of each thread's group, -1 for one that never used a GIL.
    """

    table: list[Group]
    of_thread: NDArray[np.int64]

    @property
    def quiet(self) -> int:
        """Threads that never used a GIL."""
        return int(np.count_nonzero(self.of_thread < 0))

    def labels(self, most: int) -> list[str]:
        """The first `most` of them, and what stands for the others, if there are any."""
        labels = [group.label for group in self.table[:most]]
        rest = len(self.table) - most
        return [*labels, f"{rest:,} more groups"] if rest > 0 else labels


def shown_groups(summary: Row) -> Groups:
    """The groups of a summary, as a report shows them."""
    threads = {t["id"]: t for process in summary["processes"] for t in process["threads"]}
    names = names_of(threads.values())
    used = [
        (row, [threads[number] for number in row["threads"]])
        for row in summary["groups"]
        if any(threads[number]["gil"] is not None for number in row["threads"])
    ]
    labels = _labels([row for row, _ in used], names)
    of_thread = np.full(max(threads, default=-1) + 1, -1)
    for index, (_, members) in enumerate(used):
        of_thread[[thread["id"] for thread in members]] = index
    table = [Group(label, *entry) for label, entry in zip(labels, used, strict=True)]
    return Groups(table, of_thread)


def _labels(rows: list[Row], names: dict[int, str]) -> list[str]:
    """Of each row another one: what they do, and then a number, tells equal names apart."""
    plain = []
    for row in rows:
        count = len(row["threads"])
        name = names[row["threads"][0]] if count == 1 else escaped(row["name"])
        if name in _OF_EVERY_OBJECT:
            name = f"{name} thread"
        if len(name) > LONGEST_LABEL:
            name = name[: LONGEST_LABEL - 1] + "…"
        plain.append(name if count == 1 else f"{name} ({count:,})")
    seen = Counter(plain)
    told = [
        label if seen[label] == 1 else f"{label} {row['class']}"
        for label, row in zip(plain, rows, strict=True)
    ]
    times: Counter[str] = Counter()
    answer = []
    for label in told:
        times[label] += 1
        answer.append(label if times[label] == 1 else f"{label} #{times[label]}")
    return answer
