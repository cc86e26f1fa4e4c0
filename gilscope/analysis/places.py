"""How a line is told in a sentence or a table."""

from __future__ import annotations

from typing import Any

from gilscope.analysis.units import escaped

Row = dict[str, Any]


def place(site: Row) -> str:
    """`in app.py:17 work`, or where only the end of a hold is known, `until it let go at …`; `gc in
    app.py:17 work` where the time went to garbage collections.
    """
    how = "gc in" if site["gc"] else "in" if site["exact"] else "until it let go at"
    return f"{how} {spot(site)}"


def spot(site: Row) -> str:
    """`app.py:17 work`, and within the library what that line called.

    Where the time went before the call that ended the hold, that call is not its place.
    """
    file = site["short"] or "?"
    line = f":{site['line']}" if site["line"] else ""
    inside = f" (in {site['library_line']})" if site["library_line"] and site["exact"] else ""
    function = site["function"].replace(".<locals>", "")
    return escaped(f"{file}{line} {function}".rstrip() + inside)
