"""Findings of the kernel's side: a quota that held the program back, records that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gilscope.analysis.finding import Case, Finding
from gilscope.analysis.units import counted, duration, percent

Row = dict[str, Any]

WORTH_SHARE = 0.05  # of a recording that a quota held its program back, from which it is told
WORTH_NS = 1_000_000


def quota_findings(case: Case) -> Iterator[Finding]:
    """What a quota of its cgroup cost the whole program; told with the process whose holder of the
    GIL had no processor for longest.
    """
    summary = case.summary
    ns = summary["kernel"]["throttled_ns"] or 0
    if ns < max(WORTH_NS, WORTH_SHARE * summary["duration_ns"]):
        return
    worst_first = sorted(summary["processes"], key=lambda p: -_most(p["threads"]))
    if case.process is not worst_first[0]:
        return
    text = (
        f"the quota of its cgroup held the program back"
        f" {counted(summary['kernel']['throttled'], 'time')}, for {duration(ns)} in all"
        f" ({percent(ns, summary['duration_ns'])} of the recording)"
    )
    worst = max(case.process["threads"], key=_held, default=None)
    if worst and _held(worst) >= WORTH_NS:
        text += (
            f"; {case.names[worst['id']]} held the GIL for {duration(_held(worst))} without a"
            " processor, and nobody else could go on"
        )
    text += ". Raise the quota (cpu.max, `docker run --cpus`, limits.cpu), or use fewer threads."
    yield case.problem("no-processor", text, ns, None)


def _most(threads: list[Row]) -> int:
    return max(map(_held, threads), default=0)


def _held(thread: Row) -> int:
    ns: int = thread["held"]["preempted_ns"] or 0
    return ns


def lost_switches(summary: Row) -> Iterator[Finding]:
    """A note where context switches are missing."""
    if lost := summary["kernel"]["lost_switches"]:
        text = (
            f"{counted(lost, 'context switch')} of the kernel's {'is' if lost == 1 else 'are'}"
            " missing: what the threads did then is not known."
        )
        yield Finding("note", "trust", text)
