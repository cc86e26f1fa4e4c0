"""Lines and tables for a console of any width, or for a pipe.

A figure is never parted from its unit and a header never cut: what does not fit gives up the
length of its names, then its form.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

GAP = 2  # between two columns
NAME_LEAST = 16  # cells of a name, below which a table is given up
# A word with the blanks behind it; a number and its unit are one, and so is what was left out.
_WORD = re.compile(r"(?:[\d.,]+ (?:[nµm]?s\b|%)|\+[\d,]+ more\b|\S)+ *| +")
_SHARES = (1 / 2, 1, 3 / 4, 1 / 4)  # of a shortened name that its beginning gets


@dataclass(frozen=True)
class Column:
    """A column of a table: as many cells as there are rows, each of one line."""

    header: str
    cells: Sequence[Text | str]
    left: bool = False

    @property
    def width(self) -> int:
        """Cells that it takes."""
        return max(map(_width, (self.header, *self.cells)))


def show(console: Console, what: RenderableType) -> None:
    """Print it; in a pipe or a file without the blanks that fill a table's lines."""
    with console.capture() as capture:
        console.print(what)
    text = capture.get()
    if not console.encoding.lower().startswith("utf"):
        text = text.replace("µ", "u")
    if console.is_terminal:
        console.file.write(text)
        return
    for line in text.splitlines():
        console.file.write(line.rstrip() + "\n")


def wrapped(text: Text, width: int) -> Text:
    """`text` in lines of at most `width` cells, broken between words where that is possible."""
    lines = []
    for line in text.split("\n", allow_blank=True):
        breaks, used, at = [], 0, 0
        for word in _WORD.findall(line.plain):
            if used and used + cell_len(word.rstrip()) > width:
                breaks.append(at)
                used = 0
            for character in word:
                if used and used + cell_len(character) > width and character != " ":
                    breaks.append(at)
                    used = 0
                used += cell_len(character)
                at += 1
        for part in line.divide(breaks):
            part.rstrip()
            lines.append(part)
    return Text("\n").join(lines)


def shortened(names: Iterable[str], width: int, ellipsis: str = "…") -> dict[str, str]:
    """Each of the names in at most `width` cells, with the parts that tell them apart.

    A cut leaves numbers whole. Names that no cut can tell apart lose their ends.
    """
    short: dict[str, str] = {}
    left = list(dict.fromkeys(names))
    for share in _SHARES:
        cuts = {name: _cut(name, width, share, ellipsis) for name in left}
        count = Counter(cuts.values())
        short |= {name: cut for name, cut in cuts.items() if count[cut] == 1}
        left = [name for name in left if name not in short]
    return short | {name: _cut(name, width, 1, ellipsis) for name in left}


def _cut(name: str, width: int, share: float, ellipsis: str) -> str:
    if cell_len(name) <= width:
        return name
    room = max(width - cell_len(ellipsis), 0)
    head = _beginning(name, int(room * share))
    tail = _beginning(name[::-1], room - int(room * share))[::-1]
    return (head + ellipsis + tail)[: max(width, 0)]


def _beginning(name: str, width: int) -> str:
    """The first characters that fit, without the first digits of a number that does not."""
    end = next((n for n in range(len(name)) if cell_len(name[: n + 1]) > width), len(name))
    parts_a_number = 0 < end < len(name) and name[end - 1 : end + 1].isdecimal()
    return name[:end].rstrip("0123456789") if parts_a_number else name[:end]


def room_for_names(others: Iterable[Column], width: int) -> int:
    """What a table of `width` leaves for the names before the other columns."""
    return width - sum(GAP + column.width for column in others)


def table(names: Column, others: Sequence[Column], width: int, ellipsis: str) -> Table | None:
    """A table that fits into `width`, its names shortened; None: that is too narrow for it.

    Headers stand in two lines where one would be too long.
    """
    for shown in (others, [_two_lines(column) for column in others]):
        room = room_for_names(shown, width)
        least = max(NAME_LEAST, cell_len(names.header))
        if room < min(names.width, least):
            continue
        short = shortened(map(str, names.cells), room, ellipsis)
        made = Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, GAP - 1, 0, 0),
            header_style="dim",
        )
        made.add_column(_lowered(names.header, shown), no_wrap=True)
        for column in shown:
            made.add_column(
                _lowered(column.header, shown),
                justify="left" if column.left else "right",
                min_width=column.width,
                no_wrap=True,
            )
        for name, *cells in zip(names.cells, *(c.cells for c in shown), strict=True):
            style = name.style if isinstance(name, Text) else ""
            made.add_row(Text(short[str(name)], style), *(_text(cell) for cell in cells))
        return made
    return None


def lines(names: Column, others: Sequence[Column]) -> list[Text]:
    """The same as sentences, for where a table is too wide."""
    told: list[Text] = []
    for name, *cells in zip(names.cells, *(c.cells for c in others), strict=True):
        facts = [
            f"{column.header} {cell}".strip()
            for column, cell in zip(others, cells, strict=True)
            if str(cell).strip() not in ("", "-")
        ]
        told.append(Text(f"{name}: {', '.join(facts)}" if str(name) else f"  {', '.join(facts)}"))
    return told


def _two_lines(column: Column) -> Column:
    return Column(re.sub(" (?=p50$)", "\n", column.header), column.cells, column.left)


def _lowered(header: str, columns: Sequence[Column]) -> str:
    """On the last of the lines that the headers take."""
    height = max(column.header.count("\n") for column in columns)
    return "\n" * (height - header.count("\n")) + header


def _width(cell: Text | str) -> int:
    return max((cell_len(line) for line in str(cell).split("\n")), default=0)


def _text(cell: Text | str) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)
