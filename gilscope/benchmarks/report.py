"""What a benchmark found: rows of figures, told as JSON, as a table or as markdown."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gilscope.analysis.units import duration
from gilscope.benchmarks.harness import Estimate, estimate
from gilscope.errors import RecordingError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_UNBOUNDED = 10_000  # columns
_WIDTH = 132  # of sentences in a pipe


@dataclass(frozen=True)
class Figure:
    """The values of a row's column, one a repeat, and the bound that its interval has to keep.

    `at_least` limits the lower end of the 95 % interval, `at_most` its upper end. `no_worse` asks
    less: that the interval reaches that far, so that nothing worse has been shown. Values in the
    unit `ns` are durations.
    """

    values: Sequence[float]
    unit: str = ""
    at_least: float | None = None
    no_worse: float | None = None
    at_most: float | None = None
    judged: bool = True

    @property
    def estimate(self) -> Estimate:
        """Median and interval."""
        return estimate(self.values)

    @property
    def met(self) -> bool | None:
        """None where there is no bound, or it is not judged."""
        if not self.judged:
            return None
        if self.at_least is not None:
            return bool(self.values) and self.estimate.low >= self.at_least
        if self.at_most is not None:
            return bool(self.values) and self.estimate.high <= self.at_most
        if self.no_worse is not None:
            return bool(self.values) and self.estimate.high >= self.no_worse
        return None

    def texts(self) -> list[str]:
        """Median, interval and verdict, each where there is one."""
        if not self.values:
            told = ["nothing done"]
        else:
            e = self.estimate
            told = [self._number(e.median)]
            if len(self.values) > 1:
                told += [f"({self._number(e.low)} to {self._number(e.high)})"]
        verdict = {True: ": met", False: ": NOT MET", None: ""}[self.met]
        if self.at_least is not None:
            told.append(f"≥ {self.at_least:g}{verdict}")
        elif self.at_most is not None:
            told.append(f"≤ {self.at_most:g}{verdict}")
        elif self.no_worse is not None and self.judged:
            told.append(f"no worse{verdict}")
        return told

    def _number(self, value: float) -> str:
        return duration(round(value)) if self.unit == "ns" else f"{number(value)}{self.unit}"

    def as_json(self) -> dict[str, Any]:
        """Values and all that was computed of them."""
        e = self.estimate if self.values else None
        return {
            "median": e and e.median,
            "low": e and e.low,
            "high": e and e.high,
            "unit": self.unit,
            "at_least": self.at_least,
            "at_most": self.at_most,
            "no_worse": self.no_worse,
            "met": self.met,
            "values": list(self.values),
        }


def number(value: float) -> str:
    """Three digits that mean something, without an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


@dataclass(frozen=True)
class Row:
    """Where it was measured (one text a column of words), and its figures by column."""

    words: tuple[str, ...]
    figures: Mapping[str, Figure]


@dataclass
class Report:
    """All of one run.

    `claims` are statements with whether they hold; `notes` are whole sentences; `chart` is SVG;
    `lead` is the sentence that comes first.
    """

    benchmark: str
    title: str
    command: str
    machine: str
    repeats: int
    words: tuple[str, ...]
    columns: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    claims: list[tuple[str, bool]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    chart: str = ""
    lead: str = ""

    @property
    def missed(self) -> int:
        """How many bounds were not kept, and claims do not hold."""
        figures = [figure for row in self.rows for figure in row.figures.values()]
        return sum(figure.met is False for figure in figures) + sum(
            not true for _, true in self.claims
        )

    def unjudged(self) -> Report:
        """The same without verdicts, claims and lead: one short repeat says nothing about them."""
        rows = [
            Row(row.words, {name: replace(f, judged=False) for name, f in row.figures.items()})
            for row in self.rows
        ]
        notes = [*self.notes, "A quick run judges nothing."]
        return replace(self, rows=rows, claims=[], notes=notes, lead="")

    def as_json(self) -> dict[str, Any]:
        """Everything, with the values of each repeat."""
        return {
            "schema": 1,
            "benchmark": self.benchmark,
            "command": self.command,
            "machine": self.machine,
            "repeats": self.repeats,
            "interval": "95 %, of the median, by order statistics",
            "rows": [
                {
                    **dict(zip(self.words, row.words, strict=True)),
                    "figures": {name: f.as_json() for name, f in row.figures.items()},
                }
                for row in self.rows
            ],
            "claims": [{"claim": words, "met": true} for words, true in self.claims],
            "notes": self.notes,
            **({"lead": self.lead} if self.lead else {}),
        }

    def as_markdown(self, picture: str | None = None) -> str:
        """A page of its own; `picture` is the chart's address."""
        head = [*self.words, *self.columns]
        lines = [f"# {self.title}", "", *([self.lead, ""] if self.lead else [])]
        lines += [f"    {self.command}", ""]
        lines += [f"{self._how()}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for row in self.rows:
            cells = [*row.words, *(" ".join(self._cell(row, name)) for name in self.columns)]
            lines.append(f"| {' | '.join(cells)} |")
        for note in self._told():
            lines += ["", note]
        if picture is not None:
            lines += ["", f"![{self.title}]({picture})"]
        return "\n".join(lines) + "\n"

    def show(self) -> None:
        """As tables, for people: one for each first word. In a pipe they are as wide as they need
        to be; on a terminal that is too narrow each figure has a line of its own.
        """
        from rich.console import Console, Group  # noqa: PLC0415 - heavy
        from rich.text import Text  # noqa: PLC0415

        from gilscope.viewers.layout import show, wrapped  # noqa: PLC0415

        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = _UNBOUNDED
        width = console.width if console.is_terminal else _WIDTH
        if self.lead:
            show(console, wrapped(Text(self.lead, "bold"), width))
        for first in dict.fromkeys(row.words[0] for row in self.rows):
            rows = [row for row in self.rows if row.words[0] == first]
            shown: list[RenderableType] = [self._table(rows)]
            unbounded = console.options.update(max_width=_UNBOUNDED)
            if console.measure(shown[0], options=unbounded).maximum > console.width:
                shown = [wrapped(line, console.width) for line in self._lines(rows)]
            show(console, Group(Text(f"{self.title}: {first}", "italic"), *shown))
        show(console, Group(*(wrapped(Text(t), width) for t in (self._how(), *self._told()))))

    def _table(self, rows: Sequence[Row]) -> Table:
        """A column a figure."""
        from rich.table import Table  # noqa: PLC0415

        table = Table()
        for name in self.words[1:]:
            table.add_column(name, no_wrap=True)
        for name in self.columns:
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            cells = ("\n".join(self._cell(row, name)) for name in self.columns)
            table.add_row(*row.words[1:], *cells)
        return table

    def _lines(self, rows: Sequence[Row]) -> Iterator[Text]:
        """A line a figure."""
        from rich.text import Text  # noqa: PLC0415

        width = max(map(len, self.columns))
        for row in rows:
            yield Text(", ".join(row.words[1:]), "bold")
            for name in self.columns:
                if texts := self._cell(row, name):
                    yield Text(f"  {name:<{width}}  {' '.join(texts)}")

    def _told(self) -> list[str]:
        claims = [f"{words}: {'met' if true else 'NOT MET'}." for words, true in self.claims]
        return [*claims, *self.notes]

    def _cell(self, row: Row, name: str) -> list[str]:
        return row.figures[name].texts() if name in row.figures else []

    def _how(self) -> str:
        if self.repeats == 1:
            return f"{self.machine}. One run of each."
        return (
            f"{self.machine}. Median of {self.repeats} interleaved repeats (95 % interval of the "
            "median, by order statistics). A bound ≥ is judged by the interval's lower end, ≤ and "
            "no worse by its upper end."
        )


def publish(report: Report, args: argparse.Namespace) -> int:
    """Print it as the options say, write page and chart; 1 when a bound was missed: not by --quick.

    Raises RecordingError where they cannot be written; what was measured is printed before.
    """
    if args.quick:
        report = report.unjudged()
    if args.json:
        print(json.dumps(report.as_json(), indent=1))
    else:
        report.show()
    if args.markdown is not None:
        picture = args.chart and os.path.relpath(args.chart, args.markdown.parent)
        _write(args.markdown, report.as_markdown(picture))
    if args.chart is not None:
        _write(args.chart, report.chart)
    return int(report.missed > 0)


def _write(page: Path, text: str) -> None:
    try:
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordingError(f"{page}: cannot be written: {error.strerror}") from error


class Progress:
    """A bar on a terminal, nothing in a pipe."""

    def __enter__(self) -> Progress:
        from rich.console import Console  # noqa: PLC0415 - heavy
        from rich.progress import Progress as Bar  # noqa: PLC0415

        console = Console(stderr=True)
        self._bar = Bar(console=console, transient=True, disable=not console.is_terminal)
        self._bar.start()
        self._task = self._bar.add_task("measuring", total=None)
        return self

    def tick(self, done: int, total: int) -> None:
        """So many of so many are done."""
        self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
