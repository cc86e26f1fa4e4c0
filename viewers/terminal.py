"""The summary on a terminal: verdict first, then who made others wait, worst thread first.

It presents the dictionary of `gilscope.analysis.summary` and computes nothing of its own but
shares. Like threads are one row and all fits on a screen, but where each thread is asked for. In a
pipe the same text comes without escapes; where the output cannot show block characters, ASCII
stands for them.
"""

from __future__ import annotations

import datetime
import io
import signal
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from gilscope.analysis.units import counted, duration, percent
from gilscope.safe_text import escaped
from gilscope.viewers.layout import show, wrapped
from gilscope.viewers.terminal_kernel import kernel_table
from gilscope.viewers.terminal_page import ELLIPSIS, Page, each_thread, like_threads
from gilscope.viewers.terminal_sync import sync_tables
from gilscope.viewers.terminal_threads import (
    Told,
    blame_table,
    legend,
    stories,
    threads_table,
    waits_table,
)
from gilscope.viewers.terminal_worst import worst_lines

Row = dict[str, Any]

LINES = 50  # of a page
LINES_FROM = 80  # columns; what is narrower takes more lines
# Rows of a table, GILs, causes and longest waits that are told: the first of these that fit.
_DETAIL = (
    *((6, 2, 3, 3), (6, 2, 3, 1), (6, 2, 2, 1), (4, 1, 2, 1)),
    *((3, 1, 1, 0), (2, 1, 0, 0), (1, 1, 0, 0)),
)
_ABOUT_LOCKS = ("lock", "import")  # verdicts whose tables come first
_WORD_MOST = 60  # characters of a word of the command

_SEVERITIES = {
    "problem": "bold red",
    "ok": "bold green",
    "warning": "bold yellow",
    "note": "bright_black",
}


def render(summary: Row, console: Console, top: int | None = None) -> None:
    """Print `summary` on `console`; `top`: so many threads, one by one. None: like threads as one
    row, and no more rows than fit on a page."""
    show(console, view(summary, console.width, top, _glyphs(console)))


def view(summary: Row, width: int, top: int | None, glyphs: str) -> RenderableType:
    """The whole view, laid out for `width` columns."""
    if top is not None:
        page = Page(
            each_thread(summary), width, glyphs, top, top, stories=min(top, 3), singles=True
        )
        return _view(summary, page)
    entries = like_threads(summary)
    for detail in _DETAIL:
        made = _view(summary, Page(entries, width, glyphs, *detail))
        if _height(made, width) <= LINES or width < LINES_FROM:
            break
    return made


def _height(made: RenderableType, width: int) -> int:
    console = Console(file=io.StringIO(), width=width)
    return len(console.render_lines(made, pad=False))


def _view(summary: Row, page: Page) -> RenderableType:
    parts: list[RenderableType] = [_verdict(summary), Text(), _headline(summary, page)]
    parts += _attached(summary)
    parts += _gils(summary, page.gils)
    of_sync = sync_tables(summary, page)
    about_locks = summary["findings"] and summary["findings"][0]["kind"] in _ABOUT_LOCKS
    tables = [*([of_sync] if about_locks else []), worst_lines(summary, page)]
    if page.shown:
        waits = waits_table(page)
        blame = blame_table(summary, page) if page.causes else Told([], set())
        tables += [threads_table(page), waits.parts, kernel_table(summary, page), blame.parts]
        if blame.parts and page.stories:
            tables.append(stories(summary, page))
        tables += [] if about_locks else [of_sync]
        tables.append([legend(page, waits.told | blame.told)])
    elif not about_locks:
        tables.append(of_sync)
    for made in tables:
        parts += [Text(), *made] if made else []
    notes = [f for f in summary["findings"] if f["severity"] == "note"]
    parts += [Text(note["text"], _SEVERITIES["note"]) for note in notes]
    return Group(*(wrapped(p, page.width) if isinstance(p, Text) else p for p in parts))


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


def _headline(summary: Row, page: Page) -> Text:
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
        facts[-1] += f" in {len(pythons):,} of {total}"
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


def _attached(summary: Row) -> list[RenderableType]:
    """One line, where processes ran already when their recording began."""
    at = [p["attached_at_ns"] for p in summary["processes"] if p["attached_at_ns"] is not None]
    if not at:
        return []
    first = datetime.datetime.fromtimestamp(min(at) / 1e9, datetime.timezone.utc)
    others = f", {counted(len(at) - 1, 'more process')} after it" if len(at) > 1 else ""
    return [Text(f"attached at {first:%H:%M:%S} UTC{others}; what was before is unknown")]


def _short(word: str, ellipsis: str) -> str:
    """The first line of a word, which may be a whole program (`python -c`), or its beginning."""
    line, *more = word.strip().splitlines() or [""]
    room = _WORD_MOST - cell_len(ellipsis)
    return line[:room] + ellipsis if more or len(line) > _WORD_MOST else line


def _gils(summary: Row, most: int) -> list[RenderableType]:
    """One line a GIL that was used, the most contended first."""
    used = [
        (process, gil)
        for process in summary["processes"]
        for gil in process["gils"]
        if gil["held_ns"] or gil["max_waiters"]
    ]
    used.sort(key=lambda entry: (-entry[1]["contended_ns"], -entry[1]["held_ns"]))
    lines: list[RenderableType] = []
    for process, gil in used[:most]:
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
    if len(used) > most:
        lines.append(Text(f"and {counted(len(used) - most, 'more GIL')}", "dim"))
    return lines
