"""What the policy `io-priority` would win for a thread that comes back from IO, and cost others.

With it a thread that comes back waits for little more than a switch (`SWITCH_NS`), where it now
waits for threads that compute. So the same work takes it its shared time without that waiting. It
then takes the GIL as much more often, and a switch each time, from those that compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gilscope.analysis.finding import Case
from gilscope.analysis.units import duration, percent

Row = dict[str, Any]

SWITCH_NS = 50_000  # from the request to a thread that runs
MOST_GAIN = 10  # times as much, which no machine will tell apart from more
COMMAND = "`gilscope run --policy io-priority`"


@dataclass(frozen=True)
class Gain:
    """Of one thread; ns and shares."""

    name: str
    shared_ns: int
    spared_ns: int  # its waiting for threads that compute
    times: float  # as much work as now that it could do
    cost: float  # share of their present GIL time that threads which compute would lose

    @property
    def json(self) -> Row:
        """As a finding has it."""
        return {"times": self.times, "cost": self.cost}

    @property
    def text(self) -> str:
        """The same as a sentence, with the command."""
        times = f"{MOST_GAIN} times or more"
        if self.times < MOST_GAIN:
            times = f"about {self.times:.2g} times"
        return (
            f" Try {COMMAND}: {self.name} shared the GIL for {duration(self.shared_ns)}, and waited"
            f" {duration(self.spared_ns)} of that for threads that compute. Without that it could"
            f" do {times} as much, and they would lose about"
            f" {percent(round(1_000 * self.cost), 1_000)} of their time. Or move what they compute"
            " to another process."
        )


def gain(case: Case, thread: Row, by_cpu_ns: int) -> Gain:
    """`by_cpu_ns`: what it waited for threads that compute in Python."""
    waits = thread["io_wait_ns"]["count"]
    shared = max(thread["shared_ns"], thread["waiting_ns"], 1)
    spared = max(by_cpu_ns - waits * SWITCH_NS, 0)
    times = shared / max(shared - spared, shared / 1_000)
    on_it = [t for t in case.process["threads"] if t["gil"] == thread["gil"]]
    held = sum(t["held_ns"] for t in on_it if t["class"] == "cpu")
    # Each time that one comes back: a switch, and a hold as half of its holds are, or longer. All
    # that it held has its start-up in it.
    more = (times - 1) * sum(
        t["io_wait_ns"]["count"] * (SWITCH_NS + (t["hold_ns"]["p50"] or 0))
        for t in on_it
        if t["class"] != "cpu"
    )
    return Gain(case.names[thread["id"]], shared, by_cpu_ns, times, min(more / max(held, 1), 1.0))
