"""The first table: who made others wait for the GIL, by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.cells import cell_len
from rich.console import RenderableType
from rich.style import Style
from rich.text import Text

from gilscope.analysis.places import spot
from gilscope.analysis.units import counted, duration
from gilscope.safe_text import escaped
from gilscope.viewers.layout import Column, room_for_names
from gilscope.viewers.terminal_page import SMALL, Page

Row = dict[str, Any]

_SUMS = ("holders", "waiters", "waits", "wait_ns")


def worst_lines(summary: Row, page: Page) -> list[RenderableType]:
    """A row a line, the worst first; equal lines of several processes are one."""
    merged: dict[tuple[Any, ...], Row] = {}
    for process in summary["processes"]:
        for line in process["lines"]:
            site = line["site"] or {}
            parts = ("file", "function", "library_line", "exact", "gc")
            key = (*(site.get(part) for part in parts),)
            key = (*key, line["first_line"], line["last_line"])
            if key in merged:
                for part in _SUMS:
                    merged[key][part] += line[part]
            else:
                merged[key] = dict(line)
    rows = sorted(merged.values(), key=lambda row: -row["wait_ns"])
    least = SMALL * max((row["wait_ns"] for row in rows), default=0)
    shown = [row for row in rows if row["site"] and row["wait_ns"] >= least][: page.top]
    if not shown:
        return []
    columns = [
        Column("holders", [f"{row['holders']:,}" for row in shown]),
        Column("waiters", [f"{row['waiters']:,}" for row in shown]),
        Column("waits", [f"{row['waits']:,}" for row in shown]),
        Column("each", [duration(row["wait_ns"] // max(row["waits"], 1)) for row in shown]),
        Column("in all", [duration(row["wait_ns"]) for row in shown]),
    ]
    room = room_for_names(columns, page.width)
    names = Column("who made others wait", [_where(row, room) for row in shown], left=True)
    made = page.table(names, columns)
    rest = sum(row["wait_ns"] for row in rows) - sum(row["wait_ns"] for row in shown)
    if rest >= least:
        more = counted(len(rows) - len(shown), "more line")
        made.append(Text(f"and {more}, or lines not known: {duration(rest)}", "dim"))
    return made


def _where(row: Row, room: int) -> Text:
    """`app.py:35-36 spin (json.dumps)`, which a terminal links to the file; where that is too long,
    less of it, but never less than the line."""
    site = row["site"]
    file = site["file"]
    is_file = file and not file.startswith("<")
    link = f"file://{quote(str(Path(file).absolute()))}" if is_file else None
    whole = spot({**site, "library_line": None})
    line, _, function = whole.partition(" ")
    if row["last_line"] and row["last_line"] != row["first_line"]:
        line = f"{line.rpartition(':')[0]}:{row['first_line']}-{row['last_line']}"
    line = f"gc in {line}" if site["gc"] else line if site["exact"] else f"at or before {line}"
    library = f" ({escaped(site['library'])})" if site["library"] else ""
    last = function.rpartition(".")[2]
    texts = (f"{line} {function}{library}", f"{line} {last}{library}", f"{line} {last}", line)
    fits = (text.rstrip() for text in texts if cell_len(text.rstrip()) <= room)
    return Text(next(fits, line), Style(link=link))
