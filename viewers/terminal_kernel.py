"""The page's table of the kernel's side: when threads had a processor."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType

from gilscope.analysis.units import percent
from gilscope.viewers.layout import Column
from gilscope.viewers.terminal_page import Entry, Page

Row = dict[str, Any]

_STATES = {"running": "running_ns", "preempted": "preempted_ns", "off": "off_ns"}


def kernel_table(summary: Row, page: Page) -> list[RenderableType]:
    """While they held the GIL: shares of running, preempted (they wanted a processor and had none)
    and off; and how much of their time outside they ran. Nothing where the kernel was not asked.
    """
    if not summary["kernel"]["switches"]:
        return []
    threads = {t["id"]: t for process in summary["processes"] for t in process["threads"]}
    names = Column("holding the GIL", [entry.label for entry in page.shown], left=True)
    columns = [
        Column(state, [_share(entry, threads, "held", ns) for entry in page.shown])
        for state, ns in _STATES.items()
    ]
    outside = [_share(entry, threads, "outside", "running_ns") for entry in page.shown]
    return page.table(names, [*columns, Column("running outside", outside)])


def _share(entry: Entry, threads: dict[int, Row], side: str, state: str) -> str:
    told = [threads[number][side] for number in entry.threads]
    told = [parts for parts in told if parts[state] is not None]
    if not told:
        return "?"
    whole = sum(parts[ns] for parts in told for ns in (*_STATES.values(), "unknown_ns"))
    return percent(sum(parts[state] for parts in told), whole)
