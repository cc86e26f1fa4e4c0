"""Findings of the kernel's side: a quota, processors that others had, records that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gilscope.analysis.finding import Case, Finding, known
from gilscope.analysis.units import counted, duration, percent

Row = dict[str, Any]

WORTH_SHARE = 0.05  # of a recording that a quota held its program back, from which it is told
WORTH_NS = 1_000_000
READY_SHARE = 0.25  # of its life that a thread had no processor, from which it is told
LONG_NS = 100_000_000


def quota_findings(case: Case) -> Iterator[Finding]:
    """What a quota of its cgroup cost the whole program; told with the process whose holder of the
    GIL had no processor for longest, or that held one for longest.
    """
    summary = case.summary
    ns = throttled_ns(summary)
    if not ns:
        return
    if case.process is not max(summary["processes"], key=lambda p: _most(p["threads"])):
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


def throttled_ns(summary: Row) -> int:
    """For how long a quota held the program back; 0 where it is too short to be told."""
    ns = int(summary["kernel"]["throttled_ns"] or 0)
    return ns if ns >= max(WORTH_NS, WORTH_SHARE * summary["duration_ns"]) else 0


def _most(threads: list[Row]) -> tuple[int, int]:
    return max(map(_held, threads), default=0), sum(thread["held_ns"] for thread in threads)


def _held(thread: Row) -> int:
    ns: int = thread["held"]["preempted_ns"] or 0
    return ns


def preempted_findings(case: Case) -> Iterator[Finding]:
    """The thread of the process that was ready to run for longest while others had the processors;
    where a quota held the program back, that is told instead.
    """
    if throttled_ns(case.summary):
        return
    ready = {t["id"]: _ready(t) for t in case.process["threads"]}
    worst = max(ready, key=ready.__getitem__, default=None)
    if worst is None or ready[worst] < LONG_NS:
        return
    ns, life = ready[worst], known(case.threads[worst])
    if ns < READY_SHARE * life:
        return
    text = (
        f"{case.names[worst]} was ready to run for {duration(ns)}, {percent(ns, life)} of its life,"
        " and had no processor: others had them. Use fewer workers that compute, or give the"
        " program more processors."
    )
    yield case.problem("no-processor", text, ns, worst)


def _ready(thread: Row) -> int:
    """Ready and on no processor, but for its waits for the GIL, which are told by themselves."""
    return sum(thread[part]["preempted_ns"] or 0 for part in ("held", "outside"))


def lost_switches(summary: Row) -> Iterator[Finding]:
    """A note where context switches are missing."""
    if lost := summary["kernel"]["lost_switches"]:
        text = (
            f"{counted(lost, 'context switch')} of the kernel's {'is' if lost == 1 else 'are'}"
            " missing: what the threads did then is not known."
        )
        yield Finding("note", "trust", text)
