"""Counters as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gilscope.analysis.units import duration
from gilscope.live.totals import Group

_NUMBERS = ("held", "IO wait", "CPU wait", "made wait", "acquires", "contended")
_MEANING = (
    "IO wait: after it gave the GIL up by itself; CPU wait: after another asked for it; made wait: "
    "it held the GIL while others waited."
)


def render_counters(groups: Sequence[Group], console: Console) -> None:
    """One row for each group of like threads, who waited longest first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("threads")  # the one that is made narrower
    for name in _NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    several = len({group.process for group in groups}) > 1
    for group in sorted(groups, key=_waited, reverse=True):
        sums = group.sums
        name = f"{group.thread} of {group.process}" if several else group.thread
        table.add_row(
            Text(name, no_wrap=True, overflow="ellipsis"),
            *map(duration, (sums.held_ns, sums.io_wait_ns, sums.cpu_wait_ns, sums.made_wait_ns)),
            f"{sums.acquires:,}",
            f"{sums.contended:,}",
        )
    console.print(table)
    console.print(Text(_MEANING))


def _waited(group: Group) -> tuple[int, int]:
    return group.sums.io_wait_ns + group.sums.cpu_wait_ns, group.sums.held_ns
