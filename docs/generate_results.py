"""Writes docs/results/overview.svg and the table of docs/results/README.md, of the pages' figures.

python docs/generate_results.py FOLDER
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from gilscope.benchmarks.chart import COLOURS, Axis, Picture

INTERPRETER = "Python 3.13.0"
LOADS = {
    "echo": "alone",
    "echo + 1 CPU": "beside 1 computing thread",
    "echo + 2 CPU": "beside 2 computing threads",
    "echo + 4 CPU": "beside 4 computing threads",
}
POLICIES = ("classic", "io-priority")
_BEGIN, _END = "<!-- made by make docs -->", "<!-- end -->"


@dataclass(frozen=True)
class Row:
    """Of one load under one policy, as docs/results/echo.md has it."""

    a_second: str
    p99: str
    work: str  # of the computing threads

    @property
    def requests(self) -> float:
        """Requests a second."""
        return float(self.a_second.split()[0].replace(",", ""))


def rows(page: str) -> dict[tuple[str, str], Row]:
    """By load and policy."""
    found = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == INTERPRETER and cells[1] in LOADS:
            found[cells[1], cells[2]] = Row(cells[3], cells[6], cells[8])
    return found


def chart(found: dict[tuple[str, str], Row]) -> str:
    """Requests a second of each load, a dot a policy, on a logarithmic axis."""
    picture = Picture(760, 60 + 44 * len(LOADS) + 40)
    axis = Axis.around([row.requests for row in found.values()], 230, 730)
    top, bottom = 50.0, 50.0 + 44 * len(LOADS)
    picture.text(20, 22, "Requests a second that an echo server answers", bold=True)
    picture.legend(420, 22, POLICIES)
    for tick in axis.ticks:
        picture.line([(axis.at(tick), top - 8), (axis.at(tick), bottom)])
        picture.text(axis.at(tick), bottom + 18, f"{tick:,.0f}", anchor="middle")
    for number, (load, words) in enumerate(LOADS.items()):
        y = top + 14 + 44 * number
        places = [axis.at(found[load, policy].requests) for policy in POLICIES]
        picture.text(20, y + 4, words)
        picture.line([(place, y) for place in places], "#c5c9d0", 3)
        for policy, place, colour in zip(POLICIES, places, COLOURS, strict=False):
            picture.dot(place, y, colour, f"{words}, {policy}: {found[load, policy].a_second}")
    return picture.svg


def table(found: dict[tuple[str, str], Row]) -> str:
    """Won and paid, a load a row."""
    lines = [
        "| the server | requests a second, classic | with io-priority | p99, classic | with"
        " io-priority | what the computing threads keep of their work |",
        "|---|---|---|---|---|---|",
    ]
    for load, words in LOADS.items():
        before, after = (found[load, policy] for policy in POLICIES)
        work = re.sub(r" ≥.*", "", after.work)
        cells = (words, before.a_second, after.a_second, before.p99, after.p99, work)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Write both."""
    folder = Path(sys.argv[1])
    found = rows((folder / "echo.md").read_text(encoding="utf-8"))
    (folder / "overview.svg").write_text(chart(found), encoding="utf-8")
    page = folder / "README.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(_BEGIN)
    page.write_text(
        f"{before}{_BEGIN}\n{table(found)}\n{_END}{rest.partition(_END)[2]}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
