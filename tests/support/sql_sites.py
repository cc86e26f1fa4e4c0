"""Sites a second time: in SQL, along the parents of a stack's leaf."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gilscope.trace.schema import Stack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STACKS = """
CREATE TABLE stack (id INTEGER PRIMARY KEY, parent INT, place TEXT, short TEXT, library INT);
CREATE TABLE at (of_wait INT, interval INT, leaf INT, exact INT, PRIMARY KEY (of_wait, interval));
CREATE TABLE collected (hold INTEGER PRIMARY KEY, least INT, late INT);
"""

# Along the parents of each leaf, the first frame that is not the library's.
SITES = """
CREATE TABLE site AS
WITH RECURSIVE up (leaf, node, depth) AS (
    SELECT DISTINCT leaf, leaf, 0 FROM at
    UNION ALL SELECT leaf, parent, depth + 1 FROM up JOIN stack ON stack.id = node
              WHERE parent IS NOT NULL),
own (leaf, depth) AS (
    SELECT leaf, COALESCE(MIN(CASE WHEN NOT library THEN depth END), 0)
    FROM up JOIN stack ON stack.id = node GROUP BY leaf)
SELECT own.leaf, stack.place || '|' || CASE WHEN own.depth THEN leafs.short ELSE '' END AS text
FROM own JOIN up ON up.leaf = own.leaf AND up.depth = own.depth
JOIN stack ON stack.id = up.node JOIN stack AS leafs ON leafs.id = own.leaf;
CREATE TABLE site_of AS
SELECT of_wait, interval, text || CASE WHEN exact THEN '|exact' ELSE '' END
    || CASE WHEN NOT of_wait AND least >= 2500000 AND 2 * least >= late THEN '|gc' ELSE '' END
    AS text
FROM at JOIN site USING (leaf) LEFT JOIN collected ON hold = interval;
CREATE UNIQUE INDEX site_of_interval ON site_of (of_wait, interval);
"""


def fill_stacks(
    db: sqlite3.Connection,
    stacks: Iterable[Stack],
    rows: NDArray[np.void],
    collected: NDArray[np.void] | None = None,
) -> None:
    """Make the table `site_of` of `rows` (STACK_OF_DTYPE): the text of each interval's site.

    `collected`: COLLECTED_DTYPE; locks have none.
    """
    db.executescript(STACKS)
    db.executemany(
        "INSERT INTO stack VALUES (?, ?, ?, ?, ?)",
        [(s.id, s.parent, f"{s.file}|{s.line}|{s.function}", _short(s), s.library) for s in stacks],
    )
    db.executemany(
        "INSERT INTO at VALUES (?, ?, ?, ?)",
        [
            (of_wait, interval, leaf, of_wait or seen)
            for interval, leaf, of_wait, seen, _ in rows.tolist()
        ],
    )
    if collected is not None:
        of_holds = collected[["hold", "least_ns", "late_ns"]].tolist()
        db.executemany("INSERT INTO collected VALUES (?, ?, ?)", of_holds)
    db.executescript(SITES)


def _short(stack: Stack) -> str:
    folders = stack.file.split("/")[-2:]
    return f"{'/'.join(folders) or '?'}:{stack.line} {stack.function}"


def text_of(site: dict[str, Any] | None) -> str | None:
    """A summary's site as `site_of` has it."""
    if site is None:
        return None
    place = f"{site['file']}|{site['line']}|{site['function']}|{site['library_line'] or ''}"
    return place + ("|exact" if site["exact"] else "") + ("|gc" if site["gc"] else "")
