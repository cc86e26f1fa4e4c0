"""`gilscope top` as a terminal application: what a source's pictures show, once a second."""

from __future__ import annotations

import contextlib
import signal
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Static

from gilscope.errors import GilscopeError
from gilscope.live.window import (
    SORTS,
    Picture,
    ProcessPicture,
    Source,
    ThreadPicture,
    grouped,
    sort_by,
)
from gilscope.safe_text import escaped
from gilscope.viewers.top_once import error_of

_STEPS = " ▁▂▃▄▅▆▇█"
_HISTORY = 600
_LABEL = 16  # cells before a moving line
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
_HELP = """\
[b]held[/]       the GIL was had, by anybody or by this thread
[b]contended[/]  somebody had it and another waited
[b]waiting[/]    this thread waited for it; all are shares of the window
[b]waited[/]     in all, since top began (exact: since the thread began)
[b]line[/]       where it has the GIL, or had it last

[b]s[/]  sort by the next column      [b]r[/]  turn the order round
[b]g[/]  like threads as one          [b]n[/]  the next process, [b]N[/] the one before
[b]p[/]  pause and go on              [b]q[/]  leave

sampled: read from outside, with the error that stands at the top
exact: gilscope started the program and reads its counters

any key: back"""


def percent(share: float | None) -> str:
    """`98.3 %`; `?` for what is not known."""
    return "?" if share is None else f"{100 * share:.1f} %"


def seconds(value: float | None) -> str:
    """`12.3 s`."""
    return "?" if value is None else f"{value:,.1f} s" if value < 10_000 else f"{value:,.0f} s"


def moving_line(values: deque[float], width: int) -> str:
    """The last `width` values, 0 to 1, as blocks; the newest is on the right."""
    shown = list(values)[-width:] if width > 0 else []
    blocks = "".join(_STEPS[min(round(max(v, 0) * 8), 8)] for v in shown)
    return blocks.rjust(max(width, 0))


class Help(ModalScreen[None]):
    """What the words mean, and the keys."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help Static { width: auto; max-width: 95%; height: auto; max-height: 95%; padding: 1 2;
                  border: round $primary; background: $surface; }
    """

    def compose(self) -> ComposeResult:
        """One box."""
        yield Static(_HELP)

    def on_key(self) -> None:
        """Any key leads back."""
        self.dismiss()


class Top(App[int]):
    """Shows pictures of a source until it is left or the process ends; gives an exit code."""

    TITLE = "gilscope top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; }
    #head { height: auto; padding: 0 1; }
    #lines { height: auto; max-height: 8; padding: 0 1; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave(0)", "quit"),
        Binding("ctrl+c", "leave(130)", show=False, priority=True),
        Binding("p,space", "pause", "pause"),
        Binding("s", "sort", "sort"),
        Binding("r", "turn", "reverse"),
        Binding("g", "group", "group"),
        Binding("n", "pick(1)", "process"),
        Binding("N", "pick(-1)", show=False),
        Binding("question_mark,h,f1", "help", "help", key_display="?"),
    ]

    def __init__(
        self, source: Source, every_s: float = 1.0, begin: Callable[[], None] | None = None
    ) -> None:
        """`begin` is called once the screen is there."""
        super().__init__()
        self.source, self.every_s = source, every_s
        self.picture: Picture | None = None
        self.process = 0  # index in the picture
        self.paused = self.ascending = self.groups = False
        self.order = "held"
        self.history: dict[int, tuple[deque[float], deque[float]]] = {}
        self.ended: str | None = None  # why there are no more pictures
        self._begin = begin
        self._left = False
        self._head_box, self._lines_box = Static(id="head"), Static(id="lines")
        self._table: DataTable[Text] = DataTable(
            id="threads", cursor_type="row", zebra_stripes=True
        )

    def compose(self) -> ComposeResult:
        """Head, threads, lines, keys."""
        yield self._head_box
        with Vertical():
            yield self._table
        yield self._lines_box
        yield Footer()

    def on_mount(self) -> None:
        """The first picture comes after one window."""
        import asyncio  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.action_leave, 128 + number)
        self.set_interval(self.every_s, self.look)
        self.show()
        if self._begin:
            self._begin()

    # ---- pictures -------------------------------------------------------------------------

    @work(thread=True, exclusive=True, group="look")
    def look(self) -> None:
        """Ask the source; it may take a while, so not in the screen's thread."""
        if self.ended is not None or self._left:
            return
        try:
            picture = self.source.picture()
        except GilscopeError as error:
            self._tell(self.end, str(error))
        else:
            self._tell(self.take, picture)

    def _tell(self, call: Callable[[Any], None], argument: object) -> None:
        """In the screen's thread, unless it was left meanwhile."""
        with contextlib.suppress(RuntimeError):
            if not self._left:
                self.call_from_thread(call, argument)

    def take(self, picture: Picture) -> None:
        """A new picture."""
        for process in picture.processes:
            held, contended = self.history.setdefault(
                process.pid, (deque(maxlen=_HISTORY), deque(maxlen=_HISTORY))
            )
            held.append(max((gil.held for gil in process.gils), default=0.0))
            contended.append(max((gil.contended for gil in process.gils), default=0.0))
        if not self.paused:
            before = self.shown
            self.picture = picture
            pids = [process.pid for process in picture.processes]
            self.process = pids.index(before.pid) if before and before.pid in pids else 0
            self.show()

    def end(self, why: str) -> None:
        """There is nothing more to show."""
        self.ended = why
        self.action_leave(0)

    @property
    def shown(self) -> ProcessPicture | None:
        """The process that was picked."""
        if not self.picture or not self.picture.processes:
            return None
        return self.picture.processes[self.process % len(self.picture.processes)]

    # ---- what is shown --------------------------------------------------------------------

    def show(self) -> None:
        """Draw the picture that is there."""
        if self._left or not self._table.is_attached:
            return
        self._head_box.update(self._head())
        self._lines_box.update(self._lines())
        self._threads()

    def on_resize(self) -> None:
        """Columns and lines have another width."""
        self.call_after_refresh(self.show)

    def _head(self) -> Text:
        width = max(self.size.width - 2, 20)
        process, picture = self.shown, self.picture
        if not process or not picture:
            return Text("gilscope top: the first window goes on …")
        several = len(picture.processes)
        which = f" ({self.process % several + 1} of {several})" if several > 1 else ""
        title = f"{process.pid}{which}  {escaped(process.command)}"
        rows = [
            Text(title, style="bold"),
            Text(self._says(picture), style="yellow" if self.paused else "dim"),
        ]
        held, contended = self.history.get(process.pid, (deque(), deque()))
        gil = max(process.gils, key=lambda each: each.held, default=None)
        for name, values, style in (
            ("held", held, "green"),
            ("contended", contended, "red"),
        ):
            now = getattr(gil, name) if gil else None
            row = Text(f"{name:9} {percent(now):>8}  ")
            row.append(moving_line(values, width - row.cell_len), style=style)
            rows.append(row)
        if gil:
            waiters = "?" if gil.waiters is None else f"{gil.waiters:.1f}"
            told = f"waiting {waiters}  hand-overs {gil.switches_per_s:,.0f}/s"
            if len(process.gils) > 1:
                told += f"  ({len(process.gils)} GILs, the busiest one)"
            rows.append(Text(f"{told}  holder {escaped(gil.holder or 'nobody', 30)}"))
        for row in rows:
            row.truncate(width, overflow="ellipsis")
        return Text("\n").join(rows)

    def _says(self, picture: Picture) -> str:
        if picture.source == "exact":
            how = "exact counters"
        else:
            late = picture.lateness_s or 0.0
            how = f"sampled, {error_of(picture)}, {1000 * late:.1f} ms late"
        paused = "PAUSED  " if self.paused else ""
        return f"{paused}{how}  window {picture.window_s:.1f} s  by {self._sorted()}"

    def _sorted(self) -> str:
        return self.order + (", rising" if self.ascending else "")

    def _threads(self) -> None:
        table = self._table
        at = table.cursor_row
        table.clear(columns=True)
        process = self.shown
        threads: tuple[ThreadPicture, ...] = process.threads if process else ()
        if self.groups:
            threads = grouped(threads)
        width = max(self.size.width, 40)
        name = min(max((cell_len(_name(t)) for t in threads), default=6), max(width // 4, 12))
        fixed = name + 8 + 8 + 10 + 7 + 12
        line = max(width - fixed - 2, 8)
        for label, cells, right in (
            ("thread", name, False),
            ("held", 8, True),
            ("waiting", 8, True),
            ("waited", 10, True),
            ("now", 7, False),
            ("line", line, False),
        ):
            table.add_column(label.rjust(cells) if right else label, width=cells)
        for thread in sort_by(threads, self.order, ascending=self.ascending):
            table.add_row(
                Text(escaped(_name(thread), name)),
                Text(percent(thread.held), justify="right"),
                Text(percent(thread.waiting), justify="right"),
                Text(seconds(thread.waited_s), justify="right"),
                Text(thread.now[:7], style="green" if thread.now == "holds" else "red"),
                Text(escaped(thread.line or "", line)),
            )
        if threads:
            table.move_cursor(row=min(at, len(threads) - 1))

    def _lines(self) -> Text:
        process = self.shown
        if not process or not process.lines:
            return Text("nobody waited for a line that was seen", style="dim")
        width = max(self.size.width - 2, 20)
        rows = [Text("held while others waited, by line", style="bold")]
        rows += [
            Text(f"{percent(share):>8}  {escaped(line, max(width - 10, 10))}")
            for line, share in process.lines[: 3 if self.size.height < 30 else 6]
        ]
        return Text("\n").join(rows)

    # ---- keys -----------------------------------------------------------------------------

    def action_leave(self, code: int) -> None:
        """End, with this exit code."""
        if not self._left:
            self._left = True
            self.exit(code)

    def action_pause(self) -> None:
        """The picture stays; the program goes on."""
        self.paused = not self.paused
        self.show()

    def action_sort(self) -> None:
        """By the next of SORTS."""
        self.order = SORTS[(SORTS.index(self.order) + 1) % len(SORTS)]
        self.show()

    def action_turn(self) -> None:
        """The other way round."""
        self.ascending = not self.ascending
        self.show()

    def action_group(self) -> None:
        """Like threads as one, or each."""
        self.groups = not self.groups
        self.show()

    def action_pick(self, step: int) -> None:
        """Another process of the tree."""
        if self.picture and self.picture.processes:
            self.process = (self.process + step) % len(self.picture.processes)
            self.show()

    def action_help(self) -> None:
        """Words and keys."""
        self.push_screen(Help())


def _name(thread: ThreadPicture) -> str:
    return thread.name if thread.count == 1 else f"{thread.name} ({thread.count})"
