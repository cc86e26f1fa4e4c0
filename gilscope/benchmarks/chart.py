"""Charts as SVG, of the two kinds that the benchmarks need: dots with intervals, and fronts.

Written by hand: a plotting library would be a larger dependency than all others together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from gilscope.benchmarks.report import Figure, Report, number

COLOURS = ("#8a8f98", "#1f77b4", "#d9730d", "#2a9d5c", "#9b51c6", "#c0392b", "#7a5c3e")
_INK, _GRID = "#30343a", "#e3e5e8"
_FONT = 'font-family="sans-serif" font-size="12"'


@dataclass(frozen=True)
class Axis:
    """Where values lie between two places of the picture; its ends are rounded outwards."""

    low: float
    high: float
    start: float
    end: float
    log: bool = True

    @staticmethod
    def around(values: Sequence[float], start: float, end: float, *, log: bool = True) -> Axis:
        """An axis that holds all values; only positive ones on a logarithmic one."""
        if not log:
            return Axis(0, max(1.0, *values), start, end, log=False)
        logs = [math.log10(v) for v in values if v > 0] or [0.0]
        low, high = math.floor(min(logs)), math.ceil(max(logs))
        return Axis(10.0**low, 10.0 ** max(high, low + 1), start, end)

    def at(self, value: float) -> float:
        """The place of a value; what lies outside is put at the nearer end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log10(value / self.low) / math.log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Powers of ten, or some steps from zero."""
        if self.log:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**n for n in range(first, last + 1, max(1, (last - first + 3) // 4))]
        step = 0.2 * math.ceil(self.high)
        return [step * n for n in range(math.floor(self.high / step + 1e-9) + 1)]


class Picture:
    """Collects shapes; `svg` is the file."""

    def __init__(self, width: float, height: float) -> None:
        self._width, self._height = width, height
        self._shapes: list[str] = []

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False
    ) -> None:
        """Words whose anchor lies at a point."""
        weight = ' font-weight="bold"' if bold else ""
        self._shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def line(
        self, points: Sequence[tuple[float, float]], colour: str = _GRID, width: float = 1
    ) -> None:
        """A line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._shapes.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'
        )

    def dot(self, x: float, y: float, colour: str, title: str) -> None:
        """A dot that says what it is when the pointer rests on it."""
        self._shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">'
            f"<title>{escape(title)}</title></circle>"
        )

    def legend(self, x: float, y: float, names: Sequence[str]) -> None:
        """Names in the order of the colours."""
        for name, colour in zip(names, COLOURS, strict=False):
            self.dot(x, y - 4, colour, name)
            self.text(x + 9, y, name)
            x += 30 + 7 * len(name)

    @property
    def svg(self) -> str:
        """The whole file."""
        size = f'width="{self._width:.0f}" height="{self._height:.0f}"'
        box = f'viewBox="0 0 {self._width:.0f} {self._height:.0f}"'
        body = "\n".join(self._shapes)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} {_FONT} fill="{_INK}">\n'
            f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
        )


def dots(report: Report, columns: Sequence[str]) -> str:
    """A panel a column, a line a load, a dot with its interval a variant, a mark a bound.

    The report's first word is the interpreter, the last but one the load, the last the variant.
    """
    lines = list(dict.fromkeys(row.words[:-1] for row in report.rows))
    names = list(dict.fromkeys(row.words[-1] for row in report.rows))
    left, panel, step = 250, 280, 26
    bottom = 70 + step * len(lines)
    picture = Picture(left + (panel + 30) * len(columns), bottom + 40)
    picture.text(10, 20, report.title, bold=True)
    picture.legend(left, 20, names)
    for index, words in enumerate(lines):
        picture.text(10, 74 + step * index, " · ".join(words))
    for index, column in enumerate(columns):
        figures = {
            (lines.index(row.words[:-1]), names.index(row.words[-1])): row.figures[column]
            for row in report.rows
            if column in row.figures and row.figures[column].values
        }
        start = left + (panel + 30) * index
        _panel(picture, column, figures, start=start, end=start + panel, bottom=bottom, step=step)
    return picture.svg


def _panel(
    picture: Picture,
    column: str,
    figures: Mapping[tuple[int, int], Figure],
    *,
    start: float,
    end: float,
    bottom: float,
    step: float,
) -> None:
    values = [v for figure in figures.values() for v in (figure.estimate.low, figure.estimate.high)]
    values += [figure.at_least for figure in figures.values() if figure.at_least]
    axis = Axis.around(values, start, end)
    picture.text(start, 44, column, bold=True)
    for tick in axis.ticks:
        picture.line([(axis.at(tick), 52), (axis.at(tick), bottom)])
        words = Figure([tick], _unit(figures)).texts()[0]
        picture.text(axis.at(tick), bottom + 18, words, anchor="middle")
    for (line, name), figure in figures.items():
        y, colour = 66 + step * line + 5 * name, COLOURS[name % len(COLOURS)]
        e = figure.estimate
        picture.line([(axis.at(e.low), y), (axis.at(e.high), y)], colour, 2)
        picture.dot(axis.at(e.median), y, colour, " ".join(figure.texts()))
        if figure.at_least:
            x = axis.at(figure.at_least)
            picture.line([(x, y - 9), (x, y + 9)], COLOURS[5], 2)


def _unit(figures: Mapping[tuple[int, int], Figure]) -> str:
    return next((figure.unit for figure in figures.values()), "")


@dataclass(frozen=True)
class Point:
    """A setting in a front: seconds of latency, a share of work, and what it is called."""

    latency_ns: float
    work: float
    name: str


def fronts(title: str, panels: Mapping[str, Mapping[str, Sequence[Point]]], across: int) -> str:
    """Small panels of latency (to the left is better) against work (up is better).

    Each panel has lines of points by name; the points of one name have one colour in all.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    points = [point for lines in panels.values() for line in lines.values() for point in line]
    width, height, edge = 300, 220, 50
    picture = Picture(across * width + 20, 60 + math.ceil(len(panels) / across) * height)
    picture.text(10, 20, title, bold=True)
    picture.legend(10, 42, names)
    for index, (panel, lines) in enumerate(panels.items()):
        row, column = divmod(index, across)
        start, top = column * width + edge, 80 + row * height
        x = Axis.around([point.latency_ns for point in points], start, start + width - 60)
        y = Axis.around([point.work for point in points], top + height - 60, top, log=False)
        picture.text(start, top - 6, panel, bold=True)
        for tick in x.ticks:
            picture.line([(x.at(tick), y.start), (x.at(tick), y.end)])
            words = Figure([tick], "ns").texts()[0]
            picture.text(x.at(tick), y.start + 16, words, anchor="middle")
        for tick in y.ticks:
            picture.line([(x.start, y.at(tick)), (x.end, y.at(tick))])
            picture.text(start - 6, y.at(tick) + 4, number(tick), anchor="end")
        for name, line in lines.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            places = [(x.at(point.latency_ns), y.at(point.work)) for point in line]
            picture.line(places, colour, 1.5)
            for place, point in zip(places, line, strict=True):
                picture.dot(*place, colour, f"{name}: {point.name}")
    return picture.svg


@dataclass(frozen=True)
class Curve:
    """Values in a unit by size, in the order of the sizes, and what they are."""

    title: str
    points: Sequence[tuple[float, float]]
    unit: str


def curves(title: str, shown: Sequence[Curve], across: int) -> str:
    """A small panel a curve, both axes logarithmic: what grows as its size does is a diagonal."""
    width, height, edge = 340, 200, 80
    picture = Picture(across * width + 20, 50 + math.ceil(len(shown) / across) * height)
    picture.text(10, 20, title, bold=True)
    for index, curve in enumerate(shown):
        row, column = divmod(index, across)
        start, top = column * width + edge, 60 + row * height
        x = Axis.around([size for size, _ in curve.points], start, start + width - 110)
        y = Axis.around([value for _, value in curve.points], top + height - 60, top)
        picture.text(start, top - 6, curve.title, bold=True)
        for tick in x.ticks:
            picture.line([(x.at(tick), y.start), (x.at(tick), y.end)])
            picture.text(x.at(tick), y.start + 16, f"{tick:,.0f}", anchor="middle")
        for tick in y.ticks:
            picture.line([(x.start, y.at(tick)), (x.end, y.at(tick))])
            words = Figure([tick], curve.unit).texts()[0]
            picture.text(x.start - 6, y.at(tick) + 4, words, anchor="end")
        places = [(x.at(size), y.at(value)) for size, value in curve.points]
        picture.line(places, COLOURS[1], 1.5)
        for place, (size, value) in zip(places, curve.points, strict=True):
            words = Figure([value], curve.unit).texts()[0]
            picture.dot(*place, COLOURS[1], f"{size:,.0f}: {words}")
    return picture.svg
