"""The first table: who made others wait for the GIL, by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import RenderableType
from rich.style import Style
from rich.text import Text

from gilscope.analysis.places import spot
from gilscope.analysis.units import counted, duration
from gilscope.safe_text import escaped
from gilscope.viewers.layout import Column
from gilscope.viewers.terminal_page import SMALL, Page

Row = dict[str, Any]

_SUMS = ("holders", "waiters", "waits", "wait_ns")


def worst_lines(summary: Row, page: Page) -> list[RenderableType]:
    """A row a line, the worst first; equal lines of several processes are one."""
    merged: dict[tuple[Any, ...], Row] = {}
    for process in summary["processes"]:
        for line in process["lines"]:
            site = line["site"] or {}
            key = (*(site.get(part) for part in ("file", "function", "library_line", "exact")),)
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
    names = Column("who made others wait", [_where(row) for row in shown], left=True)
    columns = [
        Column("threads", [f"{row['holders']:,}" for row in shown]),
        Column("kept", [f"{row['waiters']:,}" for row in shown]),
        Column("waits", [f"{row['waits']:,}" for row in shown]),
        Column("each", [duration(row["wait_ns"] // max(row["waits"], 1)) for row in shown]),
        Column("in all", [duration(row["wait_ns"]) for row in shown]),
    ]
    made = page.table(names, columns)
    rest = sum(row["wait_ns"] for row in rows) - sum(row["wait_ns"] for row in shown)
    if rest >= least:
        more = counted(len(rows) - len(shown), "more line")
        made.append(Text(f"and {more}, or lines not known: {duration(rest)}", "dim"))
    return made


def _where(row: Row) -> Text:
    """`app.py:35-36 spin (json.dumps)`, which a terminal links to the file."""
    site = row["site"]
    text = spot({**site, "library_line": None})
    if site["library"]:
        text += f" ({escaped(site['library'])})"
    if row["last_line"] and row["last_line"] != row["first_line"]:
        place = f"{site['short']}:{site['line']}"
        text = text.replace(place, f"{site['short']}:{row['first_line']}-{row['last_line']}", 1)
    if not site["exact"]:
        text = f"at or before {text}"
    file = site["file"]
    is_file = file and not file.startswith("<")
    link = f"file://{quote(str(Path(file).absolute()))}" if is_file else None
    return Text(text, Style(link=link))
