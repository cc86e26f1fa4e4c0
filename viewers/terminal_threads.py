"""Threads on the page: their lives, their waits, and for whom they waited."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from gilscope.analysis.finding import known
from gilscope.analysis.places import place
from gilscope.analysis.units import counted, duration, percent
from gilscope.viewers.layout import (
    GAP,
    NAME_LEAST,
    Column,
    lines,
    room_for_names,
    table,
    wrapped,
)
from gilscope.viewers.terminal_page import ELLIPSIS, SMALL, UNKNOWN, Entry, Page

Row = dict[str, Any]

_LIFE = "its life"
_BAR_LEAST, _BAR_MOST = 10, 40
_BAR_SHOWN = 0.25  # of a cell, from which a part is seen
_CAUSE_SHARE = 0.6  # of the room for texts, which a cause has at least
_CAUSE_LEAST = 20  # cells of a cause, below which a table is given up
_IO_WAIT, _CPU_WAIT, _WAKING_UP, _OVERTAKEN = "IO wait", "CPU wait", "(waking up)", "(overtaken)"

_STYLES = {"held": "green", "waiting": "red", "outside": "bright_black", "unknown": "yellow"}
_CLASS_STYLES = {"io": "cyan", "cpu": "magenta", "mixed": "yellow", "idle": "bright_black"}


class Told(NamedTuple):
    """A table, and which of the words in it the legend has to explain."""

    parts: list[RenderableType]
    told: set[str]


def threads_table(page: Page) -> list[RenderableType]:
    """How they spent their lives."""
    shown = page.shown
    names = Column("thread", [entry.label for entry in shown], left=True)
    classes = [entry.row["class"] for entry in shown]
    kind = Column("kind", [Text(c, _CLASS_STYLES[c]) for c in classes], left=True)
    figures = [
        Column(part, [percent(e.row[f"{part}_ns"], known(e.row)) for e in shown])
        for part in ("held", "waiting", "outside")
    ]
    figures.append(Column("waited", [duration(e.row["waiting_ns"]) for e in shown]))
    room = room_for_names([kind, *figures], page.width) - GAP  # for names and bars
    bar = min(_BAR_MOST, max(_BAR_LEAST, room - names.width))
    columns = [kind, *figures]
    if room >= bar + min(names.width, NAME_LEAST):
        bars = [_bar(entry.row, bar, page.glyphs) for entry in shown]
        columns.insert(1, Column(_LIFE, bars, left=True))
    made = page.table(names, columns)
    rest = page.entries.rows[len(shown) :]
    rest = [entry for entry in page.entries.rows if entry not in shown] if rest else []
    if left := sum(len(entry.threads) for entry in rest):
        quiet = sum(entry.row["waiting_ns"] for entry in rest)
        more = counted(left, "more thread")
        made.append(Text(f"and {more}, which waited {duration(quiet)} in all", "dim"))
    return made


def waits_table(page: Page) -> Told:
    """How long single waits took, a line each for those after IO and after a forced yield."""
    rows = [
        (entry.label, kind, entry.row[key])
        for entry in page.shown
        for kind, key in ((_IO_WAIT, "io_wait_ns"), (_CPU_WAIT, "cpu_wait_ns"))
        if entry.row[key]["count"]
    ]
    if not rows:
        return Told([], set())
    names = Column("each wait took", [name for name, *_ in rows], left=True)
    columns = [Column("", [kind for _, kind, _ in rows], left=True)]
    columns.append(Column("waits", [f"{waits['count']:,}" for *_, waits in rows]))
    columns += [
        Column(key, [duration(waits[key]) for *_, waits in rows]) for key in ("p50", "p99", "max")
    ]
    return Told(page.table(names, columns), {kind for _, kind, _ in rows})


def _bar(thread: Row, width: int, glyphs: str) -> Text:
    """The thread's life in `width` characters; from a quarter of one on, a part gets one."""
    parts = ("held", "waiting", "outside", "unknown")
    sizes = [thread[f"{part}_ns"] for part in parts]
    life = max(sum(sizes), 1)
    shares = [width * size / life for size in sizes]
    cells = [max(int(share + 0.5), share >= _BAR_SHOWN) for share in shares]
    largest = max(range(len(parts)), key=lambda part: cells[part])
    cells[largest] += width - sum(cells)
    bar = Text()
    for part, glyph, count in zip(parts, glyphs, cells, strict=False):
        bar.append(glyph * count, _STYLES[part])
    return bar


def blame_table(summary: Row, page: Page) -> Told:
    """Who made whom wait, at which line: some lines a waiter, its largest causes first."""
    causes: dict[str, _Causes] = defaultdict(lambda: defaultdict(Counter))
    labels = page.entries.labels
    shown = {number for entry in page.shown for number in entry.threads}
    for process in summary["processes"]:
        for row in process["blame"]:
            if row["waiter"] in shown:
                whom, where = _cause(row, labels)
                causes[labels[row["waiter"]]][where or whom, where][whom] += row["wait_ns"]
    least = SMALL * page.shown[0].row["waiting_ns"]
    rows: list[tuple[str, str, str, str, str]] = []
    for entry in _explained(page.shown, causes, least):
        waited = entry.row["waiting_ns"]
        first = (entry.label, duration(waited))
        for whom, where, spent in _largest(causes[entry.label], waited, page.causes):
            rows.append((*first, percent(spent, waited), whom, where))
            first = ("", "")
    if not rows:
        return Told([], set())
    told_of = {row[3] for row in rows}
    who = Column("who waited", [row[0] for row in rows], left=True)
    figures = [Column("in all", [row[1] for row in rows])]
    figures.append(Column("share", [row[2] for row in rows]))
    told = [" ".join(row[3:]).rstrip() for row in rows]
    room = room_for_names(figures, page.width) - GAP  # for both texts
    width = min(max(map(cell_len, told)), max(room - who.width, int(room * _CAUSE_SHARE)))
    if width >= _CAUSE_LEAST or width == max(map(cell_len, told)):
        cells = [
            wrapped(Text("\n".join(row[3:]) if cell_len(text) > width else text), width)
            for text, row in zip(told, rows, strict=True)
        ]
        columns = [*figures, Column("for", cells, left=True)]
        if made := table(who, columns, page.width, page.glyphs[ELLIPSIS]):
            return Told([made], told_of)
    return Told(list(lines(who, [*figures, Column("for", told)])), told_of)


def _explained(shown: list[Entry], causes: dict[str, _Causes], least: float) -> list[Entry]:
    """Those whose waiting is worth it; of two groups of one label the first."""
    by_label = {entry.label: entry for entry in reversed(shown)}
    return [
        entry
        for entry in shown
        if by_label[entry.label] is entry
        and causes.get(entry.label)
        and entry.row["waiting_ns"] >= least
    ]


def _largest(causes: _Causes, total: int, most: int) -> list[tuple[str, str, int]]:
    """Whom, where and how long: the largest causes of one waiter, and what they leave."""
    rows = [(_longest_of(whom), where, whom.total()) for (_, where), whom in causes.items()]
    rows.sort(key=lambda row: -row[2])
    told = [rows[0], *(r for r in rows[1:most] if r[2] >= SMALL * total)]
    rest = total - sum(spent for *_, spent in told)
    if rest >= SMALL * total:
        told.append((counted(len(rows) - len(told), "more cause"), "", rest))
    return told


# Of one waiter: by line, or by thread where no line is known, how long for which threads.
_Causes = dict[tuple[str, str], Counter[str]]


def _longest_of(whom: Counter[str]) -> str:
    (name, _), *others = whom.most_common()
    return f"{name} +{len(others):,} more" if others else name


def _cause(row: Row, names: dict[int, str]) -> tuple[str, str]:
    """For whom or what, and at which line."""
    if row["reason"] == "wakeup":
        return _WAKING_UP, ""
    if row["reason"] == "idle":
        return _OVERTAKEN, ""
    if row["holder"] is None:
        return f"{row['others']:,} others" if row["others"] else "(not known)", ""
    site = row["holder_site"]
    return names[row["holder"]], place(site) if site else ""


def stories(summary: Row, page: Page) -> list[RenderableType]:
    """The longest single waits, one sentence each."""
    names = page.names
    told: list[RenderableType] = [Text("the longest waits", "dim")]
    for wait in summary["longest_waits"][: page.stories]:
        text = f"at {wait['at_ns'] / 1e9:.3f} s {names[wait['waiter']]} waited"
        text += f" {duration(wait['wait_ns'])}"
        if wait["waiter_site"]:
            text += f" {place(wait['waiter_site'])}"
        if wait["free_ns"] > wait["held_ns"]:
            text += f"; the GIL was free for {duration(wait['free_ns'])} of that"
        elif wait["holder"] is not None:
            text += f" for {names[wait['holder']]}"
            if wait["holder_site"]:
                text += f" {place(wait['holder_site'])}"
            if wait["others"]:
                more = counted(wait["others"], "more hold")
                text += f" ({duration(wait['held_ns'])}) and {more}"
        told.append(Text(text))
    return told


def legend(page: Page, words: set[str]) -> Text:
    """Of what is shown; `words` stand in the tables."""
    made = Text()
    for part, glyph, word in zip(("held", "waiting", "outside"), page.glyphs, _WORDS, strict=False):
        if any(entry.row[f"{part}_ns"] for entry in page.shown):
            made.append(glyph * 2, _STYLES[part])
            made.append(f" {word}  ", "dim")
    made.rstrip()
    if any(entry.row["unknown_ns"] for entry in page.shown):
        made.append(f"\n{page.glyphs[UNKNOWN] * 2}", _STYLES["unknown"])
        made.append(" unknown: nothing was recorded; shares are of the rest", "dim")
    meanings = [f"{word.strip('()')}: {meaning}" for word, meaning in _MEANINGS if word in words]
    for first in range(0, len(meanings), 2):
        made.append(f"\n{'; '.join(meanings[first : first + 2])}.", "dim")
    return made


_WORDS = ("holds the GIL", "waits for it", "needs no GIL (IO, sleep, locks, C code)")
_MEANINGS = (
    (_IO_WAIT, "after it gave the GIL up by itself"),
    (_CPU_WAIT, "after a forced yield"),
    (_WAKING_UP, "the GIL was free until it took it"),
    (_OVERTAKEN, "another took it first"),
)
