"""Findings about locks: who waited for something that another thread had.

Waits for an event (an idle worker, a join) are none: see gilscope.analysis.library. Nor is the time
in which the one who had the lock waited for the GIL: that is told with the GIL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from gilscope.analysis.finding import Case, Finding, worst_site
from gilscope.analysis.places import spot
from gilscope.analysis.units import counted, duration, percent

Row = dict[str, Any]
Names = dict[int, str]  # of threads, by id, as they are written in a sentence

WORTH_SHARE = 0.15  # of its life that a thread waits for locks, from which it is worth a sentence
WORTH_NS = 1_000_000  # in all, below which no share of a short life is
FREEZE_NS = 100_000_000  # of one wait, from which it is worth one however long the thread lived


def lock_findings(case: Case) -> Iterator[Finding]:
    """The worst lock of a process, by what it cost its worst waiter."""
    process, threads = case.process, case.threads
    rows = [
        row
        for key in ("locks", "conditions")
        for row in process[key] or ()
        if row["waits_for"] == "lock" and row["wait_ns"]["count"]
    ]
    found = []
    for row in rows:
        waited: Counter[int] = Counter()
        for part in row["blame"]:
            if part["waiter_site"]:  # else it was cut off, or too short to know what it was for
                waited[part["waiter"]] += part["wait_ns"] - part["gil_ns"]
        worst = {
            thread: ns
            for thread, ns in waited.items()
            if thread in threads and _worth(threads[thread], ns, row["wait_ns"]["max"])
        }
        if worst:
            found.append((max(worst.values()), row, worst))
    if not found:
        return
    spent, row, waited_by = max(found, key=lambda it: it[0])
    kind = "import" if row["library"] == "import" else "lock"
    worst_waiter = max(waited_by, key=waited_by.__getitem__)
    text = _sentence(row, waited_by, threads, case.names)
    yield case.problem(kind, text, spent, worst_waiter, worst_site(row["blame"]))


def _worth(thread: Row, waited_ns: int, longest_ns: int) -> bool:
    known = thread["life_ns"] - thread["unknown_ns"]
    return waited_ns >= max(WORTH_NS, WORTH_SHARE * known) or (
        waited_ns >= FREEZE_NS and longest_ns >= FREEZE_NS
    )


def _sentence(row: Row, waited: dict[int, int], threads: dict[int, Row], name: Names) -> str:
    (worst, spent), *others = sorted(waited.items(), key=lambda it: -it[1])
    life = threads[worst]["life_ns"] - threads[worst]["unknown_ns"]
    who = name[worst]
    if others:
        total = spent + sum(ns for _, ns in others)
        more = counted(len(others), "more thread")
        text = f"{who} and {more} waited {duration(total)} in all"
        text += f" ({who} {percent(spent, life)} of its life)"
    else:
        text = f"{who} waited {duration(spent)}, {percent(spent, life)} of its life,"
    text += f" {_what(row)}{_at(row['blame'], 'waiter_site', 'in')}"
    owners: Counter[int] = Counter()
    for part in row["blame"]:
        if part["holder"] is not None:
            owners[part["holder"]] += part["wait_ns"]
    if owners:
        (owner, most), *more_owners = owners.most_common()
        of_owner = [part for part in row["blame"] if part["holder"] == owner]
        if more_owners and most < owners.total() / 2:
            text += f". {counted(len(owners), 'thread')} had it by turns"
            of_owner = row["blame"]
        else:
            text += f". {name[owner]} had it"
            if more_owners:
                text += f" {percent(most, row['wait_ns']['sum'])} of that time"
        text += _at(of_owner, "holder_site", "and gave it back in")
    return f"{text}. That is not the GIL: keep it for a shorter time, or share it less."


def _what(row: Row) -> str:
    if row["library"] == "import":
        return "for a module that another thread was importing"
    return f"in {row['library']}" if row["library"] else "for a lock"


def _at(blame: list[Row], site: str, words: str) -> str:
    """The place with the largest part of the waiting."""
    spots: Counter[str] = Counter()
    for part in blame:
        if found := part[site]:
            spots[spot({**found, "library_line": None})] += part["wait_ns"]
    return f" {words} {spots.most_common(1)[0][0]}" if spots else ""
