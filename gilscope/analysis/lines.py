"""Who made others wait, by line: the rows of blame turned round.

Lines of one function that lie close together are one row, as those of a loop: an interpreter lets
go of the GIL at the end of a turn, and which line of a short loop is then found is chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]

NEAR = 2  # lines between two of one row, at the most


@dataclass
class _Line:
    """What one place did; ns."""

    site: Row | None
    holders: set[int] = field(default_factory=set)
    waiters: set[int] = field(default_factory=set)
    waits: int = 0
    wait_ns: int = 0
    held_ns: int = 0

    def add(self, other: _Line) -> None:
        """Take in a line of the same row; the worst one gives the place."""
        if other.wait_ns > self.wait_ns:
            self.site = other.site
        self.holders |= other.holders
        self.waiters |= other.waiters
        self.waits += other.waits
        self.wait_ns += other.wait_ns
        self.held_ns += other.held_ns


def lines_of(blame: Iterable[Row], held: Iterable[tuple[Row | None, int]]) -> list[Row]:
    """The worst first. `blame`: rows of one process; `held`: how long its threads held the GIL, by
    site. `site` is None for what no line is known of; `first_line` and `last_line` are the ends of
    a row. The rows add up to what waiters waited for holders.
    """
    found: dict[tuple[Any, ...], _Line] = {}
    for row in blame:
        if row["reason"] != "held":
            continue
        line = found.setdefault(_key(row["holder_site"]), _Line(row["holder_site"]))
        if row["holder"] is not None:
            line.holders.add(row["holder"])
        line.waiters.add(row["waiter"])
        line.waits += row["waits"]
        line.wait_ns += row["wait_ns"]
    for site, held_ns in held:
        if (key := _key(site)) in found:
            found[key].held_ns += held_ns
    return [
        {
            "site": line.site,
            "first_line": first,
            "last_line": last,
            "holders": len(line.holders),
            "waiters": len(line.waiters),
            "waits": line.waits,
            "wait_ns": line.wait_ns,
            "held_ns": line.held_ns,
        }
        for line, first, last in sorted(_loops(found.values()), key=lambda row: -row[0].wait_ns)
    ]


def _key(site: Row | None) -> tuple[Any, ...]:
    return tuple(site.values()) if site else ()


def _loops(found: Iterable[_Line]) -> list[tuple[_Line, int | None, int | None]]:
    """Lines of one function joined while at most `NEAR` lie between them, and their ends."""
    functions: dict[tuple[Any, ...], list[_Line]] = defaultdict(list)
    rows: list[tuple[_Line, int | None, int | None]] = []
    for line in found:
        if line.site is None or not line.site["line"]:
            rows.append((line, None, None))
            continue
        site = line.site
        key = ("file", "function", "library_line", "exact", "gc")
        functions[tuple(site[part] for part in key)].append(line)
    for members in functions.values():
        numbered = sorted(((_number(line), line) for line in members), key=lambda entry: entry[0])
        first, whole = numbered[0]
        last = first
        for number, line in numbered[1:]:
            if number - last > NEAR + 1:
                rows.append((whole, first, last))
                whole, first = line, number
            else:
                whole.add(line)
            last = number
        rows.append((whole, first, last))
    return rows


def _number(line: _Line) -> int:
    return int(line.site["line"]) if line.site else 0
