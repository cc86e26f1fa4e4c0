"""What the policy `io-priority` would win for a thread that comes back from IO, and cost others."""

from __future__ import annotations

from typing import Any

from gilscope.analysis.finding import Case
from gilscope.analysis.units import duration

Row = dict[str, Any]

MOST_GAIN = 10  # times as much, which no machine will tell apart from more
COMMAND = "`gilscope run --policy io-priority`"


def gain_of(case: Case, thread: Row, by_cpu_ns: int) -> str:
    """A sentence. `by_cpu_ns` is what it waited for threads that compute."""
    life = max(thread["shared_ns"], thread["waiting_ns"])
    gain = life / max(life - by_cpu_ns, 1)
    times = f"up to {gain:.3g} times" if gain < MOST_GAIN else f"{MOST_GAIN} times or more"
    return (
        f" Try {COMMAND}: of the {duration(life)} in which it had to share the GIL"
        f" {duration(by_cpu_ns)} went to waiting for threads that compute; without that it could do"
        f" {times} as much."
    )
