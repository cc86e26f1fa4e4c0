"""Findings about holds that went on after their thread had been asked for the GIL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gilscope.analysis.finding import Case, Finding
from gilscope.analysis.kept import NO_PROCESSOR, SLEEPS, Kept
from gilscope.analysis.places import place
from gilscope.analysis.units import duration, percent

Row = dict[str, Any]
Names = dict[int, str]  # of threads, by id, as they are written in a sentence

KEPT_SHARE = 0.05  # of the longest waiting thread's, from which C code that kept the GIL is told
HAD_PROCESSOR = 0.75  # of the time after a request, below which C code's lack of one is told


def kept_findings(case: Case) -> Iterator[Finding]:
    """The worst line of C code, and the worst thread without a processor."""
    waits = {number: thread["waiting_ns"] for number, thread in case.threads.items()}
    told = set()
    for row in case.kept:
        least_ns = KEPT_SHARE * max(*waits.values(), 1)
        if row.thread not in waits or not row.waited_by or row.waited_ns < least_ns:
            continue
        kind = "no-processor" if row.why == NO_PROCESSOR else "c-call"
        if kind not in told:
            told.add(kind)
            worst, waited_ns = max(row.waited_by.items(), key=lambda it: it[1])
            site = row.site.json if row.site else None
            yield case.problem(kind, _kept_for(row, case.names), waited_ns, worst, site)


def _kept_for(row: Kept, name: Names) -> str:
    times = f"{row.times:,} times after it was asked for it, for {duration(row.median_ns)} (median)"
    others = f"Others waited {duration(row.waited_ns)} for it."
    if row.why == NO_PROCESSOR:
        return (
            f"{name[row.thread]} kept the GIL {times}, because it had no processor: it ran for"
            f" {duration(row.cpu_ns)} of {duration(row.late_ns)}. {others} That is not Python's"
            " doing: other programs, or a limit on this one's processors, took them."
        )
    where = f", {place(row.site.json)}" if row.site else ""
    text = f"{name[row.thread]} kept the GIL {times}{where}: "
    advice = " Split the work into smaller calls, move it to a process, or let the C code release"
    advice += " the GIL."
    if row.why == SLEEPS:
        return text + f"a call into C that waits and does not let it go. {others}{advice}"
    if row.why is None:  # an older trace
        text += "a call into C that does not let it go, or a processor that others had."
        return f"{text} {others}{advice}"
    text += "a call into C that computes and does not let it go"
    if row.cpu_ns < HAD_PROCESSOR * row.late_ns:
        text += f", with a processor for only {percent(row.cpu_ns, row.late_ns)} of that time"
    return f"{text}. {others}{advice}"
