"""Findings about garbage collections: who waited for a holder that collected garbage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from gilscope.analysis.finding import Case, Finding, known, worst_site
from gilscope.analysis.places import spot
from gilscope.analysis.units import counted, duration, percent

Row = dict[str, Any]

WORTH_SHARE = 0.15  # of its life that a thread waits for collections, from which it is told
WORTH_NS = 1_000_000  # in all, below which no share of a short life is
FREEZE_NS = 100_000_000  # in all, from which it is told however long the thread lived

_ADVICE = (
    " That line is only where they began. Keep fewer lists, dictionaries and objects (text, bytes"
    " and arrays of numbers do not count), make collections rarer by `gc.set_threshold()`, or,"
    " where what is kept stays for good, call `gc.freeze()` after loading it."
)


def gc_findings(case: Case) -> Iterator[Finding]:
    """What collections cost their worst waiter; none, or one."""
    rows = [row for row in case.process["blame"] if (row["holder_site"] or {}).get("gc")]
    waited: Counter[int] = Counter()
    holders: Counter[int] = Counter()
    for row in rows:
        waited[row["waiter"]] += row["wait_ns"]
        if row["holder"] is not None:
            holders[row["holder"]] += row["wait_ns"]
    worth = {t: ns for t, ns in waited.items() if t in case.threads and _worth(case.threads[t], ns)}
    if not worth:
        return
    worst, spent = max(worth.items(), key=lambda it: it[1])
    site = worst_site(rows)
    text = f"{case.names[worst]} waited {duration(spent)},"
    text += f" {percent(spent, known(case.threads[worst]))} of its life, while"
    if len(holders) == 1:
        text += f" {case.names[next(iter(holders))]}"
    else:
        text += f" {counted(len(holders), 'thread')} by turns"
    text += " collected garbage"
    if site:
        several = len({spot(row["holder_site"]) for row in rows}) > 1
        text += f"{', mostly' if several else ''} in {spot(site)}"
    if len(waited) > 1:
        total = sum(waited.values())
        text += f" ({counted(len(waited), 'thread')} {duration(total)} in all)"
    text += f". {_how_many(case)}{_ADVICE}"
    yield case.problem("gc", text, spent, worst, site)


def _worth(thread: Row, waited_ns: int) -> bool:
    return bool(waited_ns >= max(WORTH_NS, min(WORTH_SHARE * known(thread), FREEZE_NS)))


def _how_many(case: Case) -> str:
    """A few long ones tell of a large heap, many short ones of many objects."""
    gc, trace = case.process["gc"], case.trace
    if gc is None:
        return ""
    least = "at least " if gc["held_ns"] is None else ""
    took = f"took {least}{duration(gc['held_least_ns'])} in all"
    ours = np.isin(trace.holds["thread"][trace.collected["hold"]], list(case.threads))
    longest = int(trace.collected["least_ns"][ours].max(initial=0))
    if gc["collections"] > 1 and longest:
        took += f", up to {duration(longest)} in one hold"
    return f"{counted(gc['collections'], 'collection')} {took}."
