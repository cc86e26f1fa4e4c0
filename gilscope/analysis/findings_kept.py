"""Findings about holds that went on after their thread had been asked for the GIL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gilscope.analysis.finding import Case, Finding
from gilscope.analysis.kept import COMPUTES, FREEZE_NS, KEPT_NS, NO_PROCESSOR, SLEEPS, TIMES, Kept
from gilscope.analysis.library import IMPORT, PICKLING
from gilscope.analysis.places import place
from gilscope.analysis.units import duration, percent

Row = dict[str, Any]
Names = dict[int, str]  # of threads, by id, as they are written in a sentence

WORTH_SHARE = 0.05  # of the time in which it was shared, that a thread waited for calls into C
NO_PROCESSOR_SHARE = 0.15  # or for one without a processor
MAIN_SHARE = 0.5  # of the time after a request without a processor, from which that is the cause
HAD_PROCESSOR = 0.75  # of that time, below which C code's lack of one is told


def worth_telling(kept: list[Kept], threads: dict[int, Row]) -> list[Kept]:
    """Those of one process that cost somebody enough: what they explain, nothing else does."""
    return [row for row in kept if row.thread in threads and _worth(row, threads)]


def _worth(row: Kept, threads: dict[int, Row]) -> bool:
    if not row.waited_by:
        return False
    worst, waited_ns = max(row.waited_by.items(), key=lambda it: it[1])
    shared = threads[worst]["shared_ns"]
    least_ns = (NO_PROCESSOR_SHARE if _starved(row) else WORTH_SHARE) * shared
    if row.times < TIMES:
        least_ns = min(least_ns, FREEZE_NS) if _starved(row) else FREEZE_NS
    return bool(waited_ns >= least_ns)


def _starved(row: Kept) -> bool:
    """Whether it would have let the GIL go in time if it had had a processor."""
    least_ns = FREEZE_NS if row.times < TIMES else KEPT_NS
    return row.why == NO_PROCESSOR or (
        row.why == COMPUTES and row.cpu_ns < min(least_ns * row.times, MAIN_SHARE * row.late_ns)
    )


def kept_findings(case: Case) -> Iterator[Finding]:
    """The worst of each kind."""
    told = set()
    for row in case.kept:
        kind = kind_of(row)
        if kind not in told:
            told.add(kind)
            worst, waited_ns = max(row.waited_by.items(), key=lambda it: it[1])
            site = row.site.json if row.site else None
            yield case.problem(kind, _told(row, kind, case.names), waited_ns, worst, site)


def kind_of(row: Kept) -> str:
    """Of the finding that tells of it."""
    if _starved(row):
        return "no-processor"
    library = row.site.library if row.site else None
    if library in (IMPORT, PICKLING):
        return "import" if library == IMPORT else "pickling"
    return "freeze" if row.times < TIMES else "c-call"


def _told(row: Kept, kind: str, name: Names) -> str:
    worst, waited_ns = max(row.waited_by.items(), key=lambda it: it[1])
    where = f" {place(row.site.json)}" if row.site else ""
    if row.times < TIMES:
        once = "once" if row.times == 1 else "twice"
        text = (
            f"{name[worst]} stood still {once}, for {duration(waited_ns)}: {name[row.thread]} kept"
        )
        text += f" the GIL{where}"
    else:
        text = f"{name[row.thread]} kept the GIL {row.times:,} times when others had asked for it,"
        text += f" {duration(row.late_ns)} in all ({duration(row.median_ns)} median),{where}"
    others = f"{name[worst]} waited {duration(waited_ns)} for that"
    others += f", all threads {duration(row.waited_ns)}." if len(row.waited_by) > 1 else "."
    if kind == "no-processor":
        return (
            f"{text.rstrip(',')} because it had no processor: it ran for {duration(row.cpu_ns)} of"
            f" that. {others} That is not Python's doing: other programs, or a"
            " limit on this one's processors, took them."
        )
    return f"{text}: {_why(row, kind)}. {others} {_ADVICE[kind]}"


def _why(row: Kept, kind: str) -> str:
    if kind == "pickling":
        return "it pickles what another process is to have"
    if row.why == SLEEPS:
        return "a call into C that waits and does not let it go"
    if row.why is None:  # an older trace
        return "a call into C that does not let it go, or a processor that others had"
    text = "a call into C that computes and does not let it go"
    if row.cpu_ns < HAD_PROCESSOR * row.late_ns:
        text += f", with a processor for only {percent(row.cpu_ns, row.late_ns)} of that time"
    return text


_SPLIT = (
    "Make that call cheaper, split the work into smaller calls, or move it to a process; C code of"
    " your own may release the GIL."
)
_ADVICE = {
    "c-call": _SPLIT,
    "freeze": _SPLIT,
    "import": "Import it before the threads begin.",
    "pickling": "Send less, or send where the data is instead: a file's name, shared memory.",
}
