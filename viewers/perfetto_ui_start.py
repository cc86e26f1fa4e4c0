"""What Perfetto's UI shows at first: which processes are unfolded, and who stands on top.

The UI puts a process's main thread first and then those with the most slices; no trace can tell it
another order. So where there are many threads, those that waited longest are pinned to the top, the
longest first. (A pattern finds a thread's track and the group around it, of the same name: an empty
line above each.)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.perfetto.layout import thread_name
from gilscope.perfetto.tracks import Numbers

if TYPE_CHECKING:
    from gilscope.trace.model import Trace

MOST_UNFOLDED = 8  # processes; those with the longest waits
MOST_PINNED = 8  # threads
PINNED_FROM = 8  # threads that used a GIL; fewer are seen at a glance

Command = dict[str, Any]


def commands(trace: Trace) -> list[Command]:
    """The UI's start-up commands for `trace`."""
    numbers = Numbers()
    numbers.grow(trace.metadata)
    waiting = trace.thread_stats["waiting_ns"]
    users = [t for t in trace.metadata.threads if trace.thread_stats["acquires"][t.id]]
    waited = np.zeros(len(trace.metadata.processes), np.int64)
    for thread in users:
        waited[thread.process] += waiting[thread.id]
    processes = sorted({t.process for t in users}, key=lambda process: -int(waited[process]))
    # The UI calls a process's group "NAME PID", and a thread's track "NAME TID".
    pids = "|".join(str(numbers.pids[process]) for process in processes[:MOST_UNFOLDED])
    found = [_command("ExpandTracksByRegex", rf" (?:{pids})$")] if pids else []
    if len(users) > PINNED_FROM:
        longest = sorted((t for t in users if waiting[t.id]), key=lambda t: -int(waiting[t.id]))
        for thread in longest[:MOST_PINNED]:
            name = re.sub(r"[^\x00-\uffff]", "..", thread_name(thread))  # two units of UTF-16
            name = re.sub(r"[^\w ]", ".", name)
            found.append(_command("PinTracksByRegex", f"^{name} {numbers.tids[thread.id]}$"))
    return found


def _command(name: str, regex: str) -> Command:
    return {"id": f"dev.perfetto.{name}", "args": [regex]}
