"""The summary on a terminal: verdict first, worst thread first, then who made whom wait.

It presents the dictionary of `gilscope.analysis.summary` and computes nothing of its own but
shares. In a pipe the same text comes without escapes; where the output cannot show block
characters, ASCII stands for them.
"""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from gilscope.analysis.finding import known
from gilscope.analysis.names import names_of
from gilscope.analysis.places import place
from gilscope.analysis.units import counted, duration, percent
from gilscope.safe_text import escaped
from gilscope.viewers.layout import (
    GAP,
    NAME_LEAST,
    Column,
    lines,
    room_for_names,
    show,
    table,
    wrapped,
)

Row = dict[str, Any]

TOP = 10
CAUSES = 3  # named for each waiter
STORIES = 3  # told of the longest waits
UNKNOWN, ELLIPSIS = 3, 4  # their places among the glyphs
_LIFE = "its life"
_WORD_MOST = 60  # characters of a word of the command
_BAR_LEAST, _BAR_MOST = 10, 40
_CAUSE_SHARE = 0.6  # of the room for texts, which a cause has at least
_CAUSE_LEAST = 20  # cells of a cause, below which a table is given up
_SMALL = 0.01  # of the longest waiting, or of a waiter's, below which nothing is explained

_STYLES = {"held": "green", "waiting": "red", "outside": "bright_black", "unknown": "yellow"}
_CLASS_STYLES = {"io": "cyan", "cpu": "magenta", "mixed": "yellow", "idle": "bright_black"}
_SEVERITIES = {
    "problem": "bold red",
    "ok": "bold green",
    "warning": "bold yellow",
    "note": "bright_black",
}


def render(summary: Row, console: Console, top: int = TOP) -> None:
    """Print `summary` on `console`; `top` is how many threads, waiters and GILs are shown."""
    show(console, view(summary, console.width, top, _glyphs(console)))


def view(summary: Row, width: int, top: int, glyphs: str) -> RenderableType:
    """The whole view, laid out for `width` columns."""
    names = names_of(t for p in summary["processes"] for t in p["threads"])
    page = _Page(names, width, top, glyphs)
    threads = _worst_first(summary)
    parts: list[RenderableType] = [_verdict(summary), Text(), _headline(summary, page)]
    parts += _gils(summary, top)
    shown = [entry for entry in threads if entry[1]["gil"] is not None][:top]
    if shown:
        parts += [Text(), *_threads(shown, page)]
        left = len(threads) - len(shown)
        if left:
            quiet = sum(t["waiting_ns"] for _, t in threads) - sum(
                t["waiting_ns"] for _, t in shown
            )
            more = counted(left, "more thread")
            parts.append(Text(f"and {more}, which waited {duration(quiet)} in all", "dim"))
        if waits := _waits(shown, page):
            parts += [Text(), *waits]
        blame = _blame(shown, page)
        if blame:
            parts += [Text(), *blame]
            stories = _stories(summary, page)
            parts += [Text(), Text("the longest waits", "dim"), *stories]
        parts += _sync(summary, page)
        unknown = any(t["unknown_ns"] for _, t in shown)
        legend = _legend(glyphs, unknown=unknown, waits=bool(waits), blame=bool(blame))
        parts += [Text(), legend]
    else:
        parts += _sync(summary, page)
    notes = [f for f in summary["findings"] if f["severity"] == "note"]
    parts += [Text(note["text"], _SEVERITIES["note"]) for note in notes]
    return Group(*(wrapped(p, width) if isinstance(p, Text) else p for p in parts))


@dataclass(frozen=True)
class _Page:
    """What all parts of a view are laid out by."""

    names: dict[int, str]  # of threads, by id
    width: int
    top: int
    glyphs: str

    def table(self, names: Column, others: Sequence[Column]) -> list[RenderableType]:
        """A table where there is room for one, else the same in sentences."""
        made = table(names, others, self.width, self.glyphs[ELLIPSIS])
        return [made] if made else list(lines(names, others))


def _glyphs(console: Console) -> str:
    """Characters for held, waiting, outside, unknown, and for what a name leaves out."""
    return "█▒·?…" if console.encoding.lower().startswith("utf") else "#=.?~"


def _verdict(summary: Row) -> Text:
    findings = [f for f in summary["findings"] if f["severity"] != "note"]
    lines = []
    for number, finding in enumerate(findings):
        style = _SEVERITIES[finding["severity"]]
        mark = {"warning": "Warning: "}.get(finding["severity"], "" if number == 0 else "Also: ")
        text = finding["text"].replace("`", "")
        text = text if mark or not text else text[0].upper() + text[1:]
        # A thread's name stays as it is written.
        if finding["text"].startswith("`"):
            text = mark + finding["text"].replace("`", "")
            mark = ""
        lines.append(Text(mark + text, style))
    return Text("\n").join(lines)


def _meaning(exit_code: int) -> str:
    """With the signal that a shell means by it, if it means one."""
    try:
        return f"{exit_code} ({signal.Signals(exit_code - 128).name})"
    except ValueError:
        return str(exit_code)


def _headline(summary: Row, page: _Page) -> Text:
    words = (_short(word, page.glyphs[ELLIPSIS]) for word in summary["command"])
    command = escaped(" ".join(words)) or "(no command)"
    facts = [
        duration(summary["duration_ns"]),
        counted(summary["events"], "event"),
        f"{summary['lost_events']:,} lost",
    ]
    if summary["cut_at_start"]:
        facts.append("what came before was not kept")
    pythons = [p["python"] for p in summary["processes"] if p["python"]]
    if pythons:
        facts.append("Python " + ", ".join(sorted({*pythons})))
    total = counted(len(summary["processes"]), "process")
    if 0 < len(pythons) < len(summary["processes"]):  # shells that start it, or that it starts
        facts.append(f"{len(pythons):,} of {total} ran it")
    elif len(summary["processes"]) != 1:
        facts.append(total)
    policy = summary["policy"]
    if policy["name"] != "classic":
        facts.append(f"policy {policy['name']}, grace {duration(policy['grace_ns'])}")
    if summary["exit_code"]:
        facts.append(f"exit code {_meaning(summary['exit_code'])}")
    line = Text(command, "bold")
    line.append("  " + ", ".join(facts), "not bold")
    return line


def _short(word: str, ellipsis: str) -> str:
    """The first line of a word, which may be a whole program (`python -c`), or its beginning."""
    line, *more = word.strip().splitlines() or [""]
    room = _WORD_MOST - cell_len(ellipsis)
    return line[:room] + ellipsis if more or len(line) > _WORD_MOST else line


def _gils(summary: Row, top: int) -> list[RenderableType]:
    """One line a GIL that was used, the most contended first."""
    used = [
        (process, gil)
        for process in summary["processes"]
        for gil in process["gils"]
        if gil["held_ns"] or gil["max_waiters"]
    ]
    used.sort(key=lambda entry: (-entry[1]["contended_ns"], -entry[1]["held_ns"]))
    lines: list[RenderableType] = []
    for process, gil in used[:top]:
        life = process["life_ns"] - gil["unknown_ns"]
        where = f"GIL {gil['id']} of process {process['pid']}" if len(used) > 1 else "GIL"
        line = Text(
            f"{where}: held {percent(gil['held_ns'], life)} of the time"
            f" ({percent(gil['contended_ns'], life)} while others waited),"
            f" {counted(gil['switches'], 'switch')},"
            f" {counted(gil['forced_yields'], 'forced yield')},"
            f" at most {gil['max_waiters']:,} waiting"
        )
        if gil["unknown_ns"]:
            line.append(f"; {duration(gil['unknown_ns'])} more are unknown", "yellow")
        lines.append(line)
    if len(used) > top:
        lines.append(Text(f"and {counted(len(used) - top, 'more GIL')}", "dim"))
    return lines


def _threads(shown: list[tuple[Row, Row]], page: _Page) -> list[RenderableType]:
    threads = [thread for _, thread in shown]
    names = Column("thread", [page.names[t["id"]] for t in threads], left=True)
    kind = Column("kind", [Text(t["class"], _CLASS_STYLES[t["class"]]) for t in threads], left=True)
    figures = [
        Column(part, [percent(t[f"{part}_ns"], known(t)) for t in threads])
        for part in ("held", "waiting", "outside")
    ]
    figures.append(Column("waited", [duration(t["waiting_ns"]) for t in threads]))
    room = room_for_names([kind, *figures], page.width) - GAP  # for names and bars
    bar = min(_BAR_MOST, max(_BAR_LEAST, room - names.width))
    columns = [kind, *figures]
    if room >= bar + min(names.width, NAME_LEAST):
        bars = [_bar(thread, bar, page.glyphs) for thread in threads]
        columns.insert(1, Column(_LIFE, bars, left=True))
    return page.table(names, columns)


def _waits(shown: list[tuple[Row, Row]], page: _Page) -> list[RenderableType]:
    """How long single waits took, a line each for those after IO and after a forced yield."""
    rows = [
        (page.names[thread["id"]], kind, thread[key])
        for _, thread in shown
        for kind, key in (("IO wait", "io_wait_ns"), ("CPU wait", "cpu_wait_ns"))
        if thread[key]["count"]
    ]
    if not rows:
        return []
    names = Column("each wait took", [name for name, *_ in rows], left=True)
    columns = [Column("", [kind for _, kind, _ in rows], left=True)]
    columns += [
        Column(key, [duration(waits[key]) for *_, waits in rows]) for key in ("p50", "p99", "max")
    ]
    return page.table(names, columns)


def _bar(thread: Row, width: int, glyphs: str) -> Text:
    """The thread's life in `width` characters; a part that is there gets at least one."""
    parts = ("held", "waiting", "outside", "unknown")
    sizes = [thread[f"{part}_ns"] for part in parts]
    life = max(sum(sizes), 1)
    cells = [max(int(width * size / life + 0.5), size > 0) for size in sizes]
    largest = max(range(len(parts)), key=lambda part: cells[part])
    cells[largest] += width - sum(cells)
    bar = Text()
    for part, glyph, count in zip(parts, glyphs, cells, strict=False):
        bar.append(glyph * count, _STYLES[part])
    return bar


def _blame(shown: list[tuple[Row, Row]], page: _Page) -> list[RenderableType]:
    """Who made whom wait, at which line: some lines a waiter, its largest causes first."""
    causes: dict[int, _Causes] = defaultdict(lambda: defaultdict(Counter))
    for process in {process["id"]: process for process, _ in shown}.values():
        for row in process["blame"]:
            whom, where = _cause(row, page.names)
            causes[row["waiter"]][where or whom, where][whom] += row["wait_ns"]
    least = _SMALL * shown[0][1]["waiting_ns"]
    rows: list[tuple[str, str, str, str, str]] = []
    for thread in (t for _, t in shown if causes[t["id"]] and t["waiting_ns"] >= least):
        waited = thread["waiting_ns"]
        first = (page.names[thread["id"]], duration(waited))
        for whom, where, spent in _largest(causes[thread["id"]], waited):
            rows.append((*first, percent(spent, waited), whom, where))
            first = ("", "")
    if not rows:
        return []
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
            return [made]
    return list(lines(who, [*figures, Column("for", told)]))


def _largest(causes: _Causes, total: int) -> list[tuple[str, str, int]]:
    """Whom, where and how long: the largest causes of one waiter, and what they leave."""
    rows = [(_longest_of(whom), where, whom.total()) for (_, where), whom in causes.items()]
    rows.sort(key=lambda row: -row[2])
    told = [rows[0], *(r for r in rows[1:CAUSES] if r[2] >= _SMALL * total)]
    rest = total - sum(spent for *_, spent in told)
    if rest >= _SMALL * total:
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
        return "(waking up)", ""
    if row["reason"] == "idle":
        return "(overtaken)", ""
    if row["holder"] is None:
        return f"{row['others']:,} others" if row["others"] else "(not known)", ""
    site = row["holder_site"]
    return names[row["holder"]], place(site) if site else ""


def _stories(summary: Row, page: _Page) -> list[RenderableType]:
    """The longest single waits, one sentence each."""
    names = page.names
    told: list[RenderableType] = []
    for wait in summary["longest_waits"][: min(page.top, STORIES)]:
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


def _sync(summary: Row, page: _Page) -> list[RenderableType]:
    """Conditions, locks and atomic sections, where there are any."""
    parts: list[RenderableType] = []
    for key, table_of in (("conditions", _conditions), ("locks", _locks)):
        rows = [(p, row) for p in summary["processes"] for row in p[key] or ()]
        if not rows:
            continue
        rows.sort(key=_locks_before_events if key == "locks" else _longest_first)
        several = len({process["id"] for process, _ in rows}) > 1
        shown = rows[: page.top]
        if key == "locks":  # each start of a thread waits for a lock, for microseconds
            least = _SMALL * max(row["wait_ns"]["sum"] or 0 for _, row in rows)
            shown = [entry for entry in shown if (entry[1]["wait_ns"]["sum"] or 0) >= least]
        parts += [Text(), *table_of(shown, several, page)]
        if len(rows) > len(shown):
            more = counted(len(rows) - len(shown), f"more {key[:-1]}")
            parts.append(Text(f"and {more}", "dim"))
    sections = [p for p in summary["processes"] if p["atomic"] and p["atomic"]["sections"]]
    if sections:
        parts.append(Text())
        parts += [_atomic(p, page.names, len(sections) > 1) for p in sections[: page.top]]
    return parts


def _longest_first(entry: tuple[Row, Row]) -> int:
    return -(entry[1]["wait_ns"]["sum"] or 0)


def _locks_before_events(entry: tuple[Row, Row]) -> tuple[bool, int]:
    """Who waits for an event waits for something to do."""
    return entry[1]["waits_for"] == "event", _longest_first(entry)


def _objects(header: str, rows: list[tuple[Row, Row]], several: bool, *, address: bool) -> Column:
    names = []
    for process, row in rows:
        name = row["object"] or row["library"] or "not known"
        name = name if address else name.split(" at ")[0]
        names.append(f"{name} of {process['pid']}" if several else name)
    return Column(header, names, left=True)


def _conditions(rows: list[tuple[Row, Row]], several: bool, page: _Page) -> list[RenderableType]:
    kind = Column("kind", [row["kind"] for _, row in rows], left=True)
    columns = [kind, _counts(rows, "waits"), _counts(rows, "notifies")]
    columns += _times(rows, "wakeup_ns", {"p50": "woken in p50", "p99": "p99"})
    columns += _times(rows, "gil_ns", {"p50": "with GIL p50", "p99": "p99"})
    more = _times(rows, "wait_ns", {"p50": "waited p50", "p99": "p99", "max": "max"})
    more.append(_counts(rows, "timeouts"))
    names = _objects("condition", rows, several, address=True)
    short = _objects("condition", rows, several, address=False)
    told = [
        Text(f"{name}: {_first(row, page.names)}", "dim")
        for name, (_, row) in zip(short.cells, rows, strict=True)
    ]
    if room_for_names([*columns, *more], page.width) >= names.width:
        return [*page.table(names, [*columns, *more]), *told]
    return [*page.table(short, columns), *told]


def _first(condition: Row, names: dict[int, str]) -> str:
    """What tells a condition from others: who used it first, and where."""
    parts = []
    if condition["waiter"] is not None:
        where = f" {place(site)}" if (site := condition["waiter_site"]) else ""
        parts.append(f"{names[condition['waiter']]} waited{where}")
    if condition["notifier"] is not None:
        parts.append(f"{names[condition['notifier']]} notified")
    return ", ".join(parts)


def _locks(rows: list[tuple[Row, Row]], several: bool, page: _Page) -> list[RenderableType]:
    kind = Column("kind", [row["kind"] for _, row in rows], left=True)
    columns = [kind, _counts(rows, "waits"), _counts(rows, "timeouts")]
    waited = {"p50": "waited p50", "p99": "p99", "max": "max", "sum": "in all"}
    columns += _times(rows, "wait_ns", waited)
    names = _objects("lock", rows, several, address=True)
    if room_for_names(columns, page.width) < names.width:
        names = _objects("lock", rows, several, address=False)
    told = [
        Text(f"{name}: {text}", "dim")
        for name, (_, row) in zip(names.cells, rows, strict=True)
        if (text := _blamed(row, page.names))
    ]
    return [*page.table(names, columns), *told]


def _blamed(lock: Row, names: dict[int, str]) -> str:
    """What it is, and who waited longest, where, and who ended that."""
    parts = [lock["library"]] if lock["library"] and lock["object"] else []
    if lock["waits_for"] == "lock" and (largest := lock["blame"][0])["waiter_site"]:
        text = f"{names[largest['waiter']]} waited {duration(largest['wait_ns'])}"
        text += f" {place(largest['waiter_site'])}"
        if largest["holder"] is not None:
            text += f" until {names[largest['holder']]} gave it back"
        if largest["holder_site"]:
            text += f" {place(largest['holder_site'])}"
        parts.append(text)
    return "; ".join(parts)


def _counts(rows: list[tuple[Row, Row]], key: str) -> Column:
    return Column(key, [f"{row[key]:,}" for _, row in rows])


def _times(rows: list[tuple[Row, Row]], key: str, headers: dict[str, str]) -> list[Column]:
    """A column for each of the keys of a distribution."""
    return [
        Column(header, [_cell(row[key], of) for _, row in rows]) for of, header in headers.items()
    ]


def _cell(distribution: Row, key: str) -> str:
    return duration(distribution[key]) if distribution["count"] else "-"


def _atomic(process: Row, names: dict[int, str], several: bool) -> Text:
    atomic = process["atomic"]
    sections, deferred = atomic["sections"], atomic["deferred_yields"]
    held, p50, p99, longest = (
        _cell(atomic["held_ns"], key) for key in ("sum", "p50", "p99", "max")
    )
    of = f" of process {process['pid']}" if several else ""
    text = (
        f"{counted(sections, 'atomic section')}{of}: held the GIL {held} in all"
        f" (p50 {p50}, p99 {p99}, max {longest}),"
        f" {counted(deferred, 'yield')} held back"
    )
    told = [f"{names[w['thread']]} {duration(w['wait_ns'])}" for w in atomic["waiters"][:CAUSES]]
    return Text(text + (f"; waited for them: {', '.join(told)}" if told else ""))


def _legend(glyphs: str, *, unknown: bool, waits: bool, blame: bool) -> Text:
    """Of what is shown."""
    parts = ("held", "waiting", "outside")
    words = ("holds the GIL", "waits for it", "needs no GIL (IO, sleep, C code)")
    legend = Text()
    for part, glyph, word in zip(parts, glyphs, words, strict=False):
        legend.append(glyph * 2, _STYLES[part])
        legend.append(f" {word}  ", "dim")
    legend.rstrip()
    if unknown:
        legend.append(f"\n{glyphs[UNKNOWN] * 2}", _STYLES["unknown"])
        legend.append(" unknown: nothing was recorded; shares are of the rest", "dim")
    if waits:
        legend.append(
            "\nIO wait: after it gave the GIL up by itself; CPU wait: after a forced yield.", "dim"
        )
    if blame:
        legend.append(
            "\nwaking up: the GIL was free until it took it; overtaken: another took it first.",
            "dim",
        )
    return legend


def _worst_first(summary: Row) -> list[tuple[Row, Row]]:
    """All (process, thread), those that waited longest first."""
    threads = [(p, t) for p in summary["processes"] for t in p["threads"]]
    threads.sort(key=lambda entry: (-entry[1]["waiting_ns"], -entry[1]["held_ns"]))
    return threads
