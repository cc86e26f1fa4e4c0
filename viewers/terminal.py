"""The summary on a terminal: verdict first, worst thread first, then who made whom wait.

It presents the dictionary of `gilscope.analysis.summary` and computes nothing of its own but
shares. In a pipe the same text comes without escapes; where the output cannot show block
characters, ASCII stands for them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gilscope.analysis.findings import place
from gilscope.analysis.units import duration, escaped, percent

Row = dict[str, Any]

TOP = 10
WIDE = 130  # columns from which a thread's bar and its waits share a line
CAUSES = 3  # named for each waiter
STORIES = 3  # told of the longest waits
_NAME_WIDTH = 22
_NARROW_NAME_WIDTH = 18
_SMALL = 0.01  # of the longest waiting, or of a waiter's, below which nothing is explained

_STYLES = {"held": "green", "waiting": "red", "outside": "bright_black"}
_CLASS_STYLES = {"io": "cyan", "cpu": "magenta", "mixed": "yellow", "idle": "bright_black"}
_SEVERITIES = {
    "problem": "bold red",
    "ok": "bold green",
    "warning": "bold yellow",
    "note": "bright_black",
}


def render(summary: Row, console: Console, top: int = TOP) -> None:
    """Print `summary` on `console`; `top` is how many threads, waiters and GILs are shown."""
    console.print(view(summary, console.width, top, _glyphs(console)))


def view(summary: Row, width: int, top: int, glyphs: str) -> RenderableType:
    """The whole view, laid out for `width` columns."""
    threads = _worst_first(summary)
    names = _names(summary, threads)
    parts: list[RenderableType] = [_verdict(summary), Text(), _headline(summary)]
    parts += _gils(summary, top)
    shown = [entry for entry in threads if entry[1]["gil"] is not None][:top]
    if shown:
        wide = width >= WIDE
        parts += [Text(), _threads(shown, names, width, glyphs=glyphs, waits=wide)]
        if not wide:
            parts += [Text(), _waits(shown, names)]
        left = len(threads) - len(shown)
        if left:
            quiet = sum(t["waiting_ns"] for _, t in threads) - sum(
                t["waiting_ns"] for _, t in shown
            )
            more = "1 more thread, which" if left == 1 else f"{left:,} more threads, which"
            parts.append(Text(f"and {more} waited {duration(quiet)} in all", "dim"))
        blame = _blame(shown, names)
        if blame:
            parts += [Text(), blame]
            stories = _stories(summary, names, top)
            parts += [Text(), Text("the longest waits", "dim"), *stories]
        parts += _sync(summary, names, width, top)
        parts += [Text(), _legend(glyphs)]
    else:
        parts += _sync(summary, names, width, top)
    notes = [f for f in summary["findings"] if f["severity"] == "note"]
    parts += [Text(note["text"], _SEVERITIES["note"]) for note in notes]
    return Group(*parts)


def _glyphs(console: Console) -> str:
    """Characters for held, waiting, outside."""
    return "█▒·" if console.encoding.lower().startswith("utf") else "#=."


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


def _headline(summary: Row) -> Text:
    command = escaped(" ".join(summary["command"])) or "(no command)"
    facts = [
        duration(summary["duration_ns"]),
        f"{summary['events']:,} events",
        f"{summary['lost_events']:,} lost",
    ]
    pythons = sorted({p["python"] for p in summary["processes"] if p["python"]})
    if pythons:
        facts.append("Python " + ", ".join(pythons))
    if len(summary["processes"]) != 1:
        facts.append(f"{len(summary['processes']):,} processes")
    policy = summary["policy"]
    if policy["name"] != "classic":
        facts.append(f"policy {policy['name']}, grace {duration(policy['grace_ns'])}")
    if summary["exit_code"]:
        facts.append(f"exit code {summary['exit_code']}")
    line = Text(command, "bold")
    line.append("  " + ", ".join(facts), "not bold")
    return line


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
        life = process["life_ns"]
        where = f"GIL {gil['id']} of process {process['pid']}" if len(used) > 1 else "GIL"
        lines.append(
            Text(
                f"{where}: held {percent(gil['held_ns'], life)} of the time"
                f" ({percent(gil['contended_ns'], life)} while others waited),"
                f" {gil['switches']:,} switches, {gil['forced_yields']:,} forced yields,"
                f" at most {gil['max_waiters']:,} waiting"
            )
        )
    if len(used) > top:
        lines.append(Text(f"and {len(used) - top:,} more GILs", "dim"))
    return lines


def _threads(
    shown: list[tuple[Row, Row]], names: dict[int, str], width: int, *, glyphs: str, waits: bool
) -> Table:
    table = _table()
    table.add_column(
        "thread, worst first", max_width=_NAME_WIDTH, no_wrap=True, overflow="ellipsis"
    )
    table.add_column("kind")
    longest = max(len("thread, worst first"), *(len(names[t["id"]]) for _, t in shown))
    left = width - min(longest, _NAME_WIDTH) - 34  # by the other columns
    bar_width = max(10, min(40, width // 3 - 4 if waits else left))
    table.add_column("its life", width=bar_width)
    for share in ("held", "waiting", "outside"):
        table.add_column(share, justify="right")
    if waits:
        for header in _WAIT_HEADERS:
            table.add_column(header, justify="right")
    for _, thread in shown:
        life = thread["life_ns"]
        table.add_row(
            Text(names[thread["id"]]),
            Text(thread["class"], _CLASS_STYLES[thread["class"]]),
            _bar(thread, bar_width, glyphs),
            *(percent(thread[f"{part}_ns"], life) for part in ("held", "waiting", "outside")),
            *(_wait_cells(thread) if waits else ()),
        )
    return table


_WAIT_HEADERS = ("IO wait p50", "p99", "max", "CPU wait p50", "p99", "max")


def _waits(shown: list[tuple[Row, Row]], names: dict[int, str]) -> Table:
    table = _table()
    table.add_column(
        "each wait took", max_width=_NARROW_NAME_WIDTH, no_wrap=True, overflow="ellipsis"
    )
    for header in _WAIT_HEADERS:
        table.add_column(header, justify="right")
    for _, thread in shown:
        table.add_row(Text(names[thread["id"]]), *_wait_cells(thread))
    return table


def _wait_cells(thread: Row) -> list[str]:
    cells = []
    for kind in ("io_wait_ns", "cpu_wait_ns"):
        values = thread[kind]
        cells += [
            duration(values[key]) if values["count"] else "-" for key in ("p50", "p99", "max")
        ]
    return cells


def _bar(thread: Row, width: int, glyphs: str) -> Text:
    """The thread's life in `width` characters; a part that is there gets at least one."""
    parts = ("held", "waiting", "outside")
    sizes = [thread[f"{part}_ns"] for part in parts]
    life = max(sum(sizes), 1)
    cells = [max(int(width * size / life + 0.5), size > 0) for size in sizes]
    largest = max(range(len(parts)), key=lambda part: cells[part])
    cells[largest] += width - sum(cells)
    bar = Text()
    for part, glyph, count in zip(parts, glyphs, cells, strict=True):
        bar.append(glyph * count, _STYLES[part])
    return bar


def _blame(shown: list[tuple[Row, Row]], names: dict[int, str]) -> Table | None:
    """Who made whom wait, at which line: some lines a waiter, its largest causes first."""
    causes: dict[int, _Causes] = defaultdict(lambda: defaultdict(Counter))
    for process in {process["id"]: process for process, _ in shown}.values():
        for row in process["blame"]:
            whom, where = _cause(row, names)
            causes[row["waiter"]][where or whom, where][whom] += row["wait_ns"]
    least = _SMALL * shown[0][1]["waiting_ns"]
    waiters = [t for _, t in shown if causes[t["id"]] and t["waiting_ns"] >= least]
    if not waiters:
        return None
    table = _table()
    table.add_column("who waited", max_width=_NARROW_NAME_WIDTH, no_wrap=True, overflow="ellipsis")
    table.add_column("in all", justify="right")
    table.add_column("for", max_width=_NARROW_NAME_WIDTH, no_wrap=True, overflow="ellipsis")
    table.add_column("share", justify="right")
    table.add_column("at which line", overflow="fold")
    for thread in waiters:
        rows = [
            (_longest_of(whom), where, whom.total())
            for (_, where), whom in causes[thread["id"]].items()
        ]
        rows.sort(key=lambda row: -row[2])
        total = thread["waiting_ns"]
        told = [rows[0], *(r for r in rows[1:CAUSES] if r[2] >= _SMALL * total)]
        rest = total - sum(spent for *_, spent in told)
        if rest >= _SMALL * total:
            left = len(rows) - len(told)
            told.append((f"{left:,} more cause{'s' * (left > 1)}", "", rest))
        first = [Text(names[thread["id"]]), Text(duration(total))]
        for whom, where, spent in told:
            table.add_row(*first, Text(whom), Text(percent(spent, total)), Text(where))
            first = [Text(), Text()]
    return table


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


def _stories(summary: Row, names: dict[int, str], top: int) -> list[RenderableType]:
    """The longest single waits, one sentence each."""
    lines: list[RenderableType] = []
    for wait in summary["longest_waits"][: min(top, STORIES)]:
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
                more = "hold" if wait["others"] == 1 else "holds"
                text += f" ({duration(wait['held_ns'])}) and {wait['others']:,} more {more}"
        lines.append(Text(text))
    return lines


def _sync(summary: Row, names: dict[int, str], width: int, top: int) -> list[RenderableType]:
    """Conditions, locks and atomic sections, where there are any."""
    parts: list[RenderableType] = []
    for key, table_of in (("conditions", _conditions), ("locks", _locks)):
        rows = [(p, row) for p in summary["processes"] for row in p[key] or ()]
        if not rows:
            continue
        rows.sort(key=lambda entry: -(entry[1]["wait_ns"]["sum"] or 0))
        several = len({process["id"] for process, _ in rows}) > 1
        parts += [Text(), table_of(rows[:top], several, width >= WIDE)]
        if len(rows) > top:
            left = len(rows) - top
            parts.append(Text(f"and {left:,} more {key if left > 1 else key[:-1]}", "dim"))
    sections = [p for p in summary["processes"] if p["atomic"] and p["atomic"]["sections"]]
    if sections:
        parts.append(Text())
        parts += [_atomic(process, names, len(sections) > 1) for process in sections[:top]]
    return parts


def _object_name(process: Row, row: Row, several: bool, wide: bool) -> Text:
    name = row["object"] if wide else row["object"].split(" at ")[0]
    return Text(f"{name} of {process['pid']}" if several else name)


def _cells(distribution: Row, *keys: str) -> list[str]:
    return [duration(distribution[key]) if distribution["count"] else "-" for key in keys]


def _conditions(rows: list[tuple[Row, Row]], several: bool, wide: bool) -> Table:
    table = _table()
    table.add_column("condition", no_wrap=True, overflow="ellipsis")
    table.add_column("kind", no_wrap=True)
    for header in ("waits", "notifies", "woken in p50", "p99", "with GIL p50", "p99"):
        table.add_column(header, justify="right")
    if wide:
        for header in ("waited p50", "p99", "max", "timeouts"):
            table.add_column(header, justify="right")
    for process, row in rows:
        table.add_row(
            _object_name(process, row, several, wide),
            row["kind"],
            f"{row['waits']:,}",
            f"{row['notifies']:,}",
            *_cells(row["wakeup_ns"], "p50", "p99"),
            *_cells(row["gil_ns"], "p50", "p99"),
            *(
                (*_cells(row["wait_ns"], "p50", "p99", "max"), f"{row['timeouts']:,}")
                if wide
                else ()
            ),
        )
    return table


def _locks(rows: list[tuple[Row, Row]], several: bool, wide: bool) -> Table:
    table = _table()
    table.add_column("lock", no_wrap=True, overflow="ellipsis")
    table.add_column("kind", no_wrap=True)
    for header in ("waits", "timeouts", "waited p50", "p99", "max", "in all"):
        table.add_column(header, justify="right")
    for process, row in rows:
        table.add_row(
            _object_name(process, row, several, wide),
            row["kind"],
            f"{row['waits']:,}",
            f"{row['timeouts']:,}",
            *_cells(row["wait_ns"], "p50", "p99", "max", "sum"),
        )
    return table


def _atomic(process: Row, names: dict[int, str], several: bool) -> Text:
    atomic = process["atomic"]
    sections, deferred = atomic["sections"], atomic["deferred_yields"]
    held, p50, p99, longest = _cells(atomic["held_ns"], "sum", "p50", "p99", "max")
    of = f" of process {process['pid']}" if several else ""
    text = (
        f"{sections:,} atomic section{'s' * (sections != 1)}{of}: held the GIL {held} in all"
        f" (p50 {p50}, p99 {p99}, max {longest}),"
        f" {deferred:,} yield{'s' * (deferred != 1)} held back"
    )
    told = [f"{names[w['thread']]} {duration(w['wait_ns'])}" for w in atomic["waiters"][:CAUSES]]
    return Text(text + (f"; waited for them: {', '.join(told)}" if told else ""))


def _legend(glyphs: str) -> Text:
    held, waiting, outside = tuple(glyphs)
    legend = Text()
    legend.append(held * 2, _STYLES["held"])
    legend.append(" holds the GIL  ", "dim")
    legend.append(waiting * 2, _STYLES["waiting"])
    legend.append(" waits for it  ", "dim")
    legend.append(outside * 2, _STYLES["outside"])
    legend.append(" needs no GIL (IO, sleep, C code)\n", "dim")
    legend.append(
        "IO wait: after it gave the GIL up by itself; CPU wait: after a forced yield.\n"
        "waking up: the GIL was free until it took it; overtaken: another took it first.",
        "dim",
    )
    return legend


def _table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )


def _worst_first(summary: Row) -> list[tuple[Row, Row]]:
    """All (process, thread), those that waited longest first."""
    threads = [(p, t) for p in summary["processes"] for t in p["threads"]]
    threads.sort(key=lambda entry: (-entry[1]["waiting_ns"], -entry[1]["held_ns"]))
    return threads


def _names(summary: Row, threads: list[tuple[Row, Row]]) -> dict[int, str]:
    """What to call each thread: its name, with the tid where a name occurs twice."""
    count: dict[str, int] = defaultdict(int)
    for _, thread in threads:
        count[thread["name"]] += 1
    names = {}
    for _, thread in threads:
        name = escaped(thread["name"])
        if count[thread["name"]] > 1:
            name = f"{name[: _NAME_WIDTH - 9]} {thread['tid']}"
        names[thread["id"]] = name
    return names
