"""One picture of `gilscope top` as text."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gilscope.live.window import Picture, grouped, sort_by
from gilscope.safe_text import escaped

_MOST = 30  # threads of a process


def render(picture: Picture, console: Console) -> None:
    """Processes, their GILs and their threads, who held most first."""
    for process in picture.processes:
        console.print(Text(f"process {process.pid}  {escaped(process.command)}", style="bold"))
        for gil in process.gils:
            waiters = "?" if gil.waiters is None else f"{gil.waiters:.1f}"
            console.print(
                Text(
                    f"GIL: held {percent(gil.held)}, {percent(gil.contended)} while others waited, "
                    f"{waiters} waiting, {gil.switches_per_s:,.0f} hand-overs/s"
                )
            )
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("thread")  # this and the line are made narrower, numbers are not
        for name in ("held", "waiting"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("line")
        for thread in sort_by(grouped(process.threads), "held")[:_MOST]:
            name = thread.name if thread.count == 1 else f"{thread.name} ({thread.count})"
            table.add_row(
                Text(escaped(name, 40), no_wrap=True, overflow="ellipsis"),
                percent(thread.held),
                percent(thread.waiting),
                Text(escaped(thread.line or ""), no_wrap=True, overflow="ellipsis"),
            )
        console.print(table)
        for line, share in process.lines[:3]:
            console.print(Text(f"{percent(share)} of what others waited: {escaped(line)}"))
    console.print(Text(_source(picture)))


def percent(share: float | None) -> str:
    """`98.3 %`; `?` for what is not known."""
    return "?" if share is None else f"{100 * share:.1f} %"


def error_of(picture: Picture) -> str:
    """How far the shares of samples may be off."""
    return "error not known" if picture.error is None else f"± {100 * picture.error:.0f} points"


def _source(picture: Picture) -> str:
    if picture.source == "exact":
        return f"exact, of {picture.window_s:.1f} s"
    error = error_of(picture)
    late = 1000 * (picture.lateness_s or 0.0)
    return f"sampled for {picture.window_s:.1f} s: {error}, {late:.1f} ms late on average"
