"""Findings about threads that were woken late because the GIL was held.

A native condition, as in Python Plus, wakes whom it notified when that thread can have the GIL.
Until then the thread waits for the condition still, and no wait for the GIL is recorded.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gilscope.analysis.finding import Case, Finding
from gilscope.analysis.kept import FREEZE_NS
from gilscope.analysis.places import place
from gilscope.analysis.units import duration
from gilscope.trace.story import NEVER

ONE_HOLD = 0.8  # of the time from the notify on, from which a hold explains it


def woken_findings(case: Case) -> Iterator[Finding]:
    """The thread that one hold kept longest from going on; none, or one."""
    waits, holds = case.trace.sync_waits, case.trace.holds
    late_ns = np.where(waits["woken_ns"] == NEVER, 0, waits["end_ns"] - waits["woken_ns"])
    frozen = [
        int(index)
        for index in np.flatnonzero(late_ns >= FREEZE_NS)
        if int(waits["thread"][index]) in case.threads
    ]
    ours = np.flatnonzero(
        (holds["end_ns"] - holds["start_ns"] >= ONE_HOLD * FREEZE_NS)
        & np.isin(holds["thread"], list(case.threads))
    )
    if not frozen or not len(ours):
        return
    worst = max(frozen, key=lambda index: int(late_ns[index]))
    begin, end = int(waits["woken_ns"][worst]), int(waits["end_ns"][worst])
    both = np.minimum(holds["end_ns"][ours], end) - np.maximum(holds["start_ns"][ours], begin)
    hold = int(ours[both.argmax()])
    if both.max() < ONE_HOLD * (end - begin):
        return
    thread, holder = int(waits["thread"][worst]), int(holds["thread"][hold])
    of_hold = case.sites.of_hold
    site = case.sites.json(0 if of_hold is None else int(of_hold[hold]))
    text = (
        f"{case.names[thread]} stood still once, for {duration(end - begin)}: it was notified, and"
    )
    text += f" {case.names[holder]} kept the GIL"
    text += f" {place(site)}." if site else "."
    text += " Split the work into smaller pieces, or move it to a process."
    yield case.problem("freeze", text, end - begin, thread, site)
