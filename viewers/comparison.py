"""A comparison for the terminal: the answer, what it rests on, row by row."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from gilscope.analysis.units import counted, duration, escaped
from gilscope.viewers.layout import GAP, Column, lines, room_for_names, show, table, wrapped

Row = dict[str, Any]

_MEASURES = {
    "duration": "takes",
    "waiting": "waits for the GIL",
    "held": "holds the GIL",
    "lock_wait": "waits for locks",
}
_NEARLY_ALL = -99.9
_STYLES = {True: "bold", False: "dim", None: ""}


def render(result: Row, console: Console, top: int) -> None:
    """Print the dictionary of `compare` and at most `top` of its rows."""
    width = console.width
    before, after = (counted(len(result[side]), "run") for side in ("before", "after"))
    basis = "" if result["basis"] == "run" else "; figures are for each recorded second"
    show(console, wrapped(Text(escaped(result["answer"]), "bold"), width))
    show(console, Text())
    show(console, wrapped(Text(f"{before} before, {after} after{basis}"), width))
    for part in _rows(result, width, top):
        show(console, part)
    if "windows" in result:
        for part in _windows(result["windows"], width, top):
            show(console, part)
    for note in result["notes"]:
        show(console, wrapped(Text(f"note: {escaped(note)}", "dim"), width))


def _rows(result: Row, width: int, top: int) -> list[RenderableType]:
    rows = result["rows"][:top]
    if not rows:
        return []
    names = Column(
        "what",
        [_named(row) for row in rows],
        left=True,
    )
    columns = [
        Column("before", [_figure(row["before"]) for row in rows]),
        Column("after", [_figure(row["after"]) for row in rows]),
        Column("change", [Text(_change(row), _STYLES[row["changed"]]) for row in rows]),
    ]
    if result["certain"]:
        columns.append(Column("visible from", [_visible(row) for row in rows]))
        columns.append(Column("p", [f"{row['p']:.2g}" for row in rows]))
    parts: list[RenderableType] = [Text()]
    made = table(names, columns, width, "…") if room_for_names(columns, width) > GAP else None
    parts += [made] if made else lines(names, columns)
    if len(result["rows"]) > top:
        parts.append(Text(f"and {counted(len(result['rows']) - top, 'more row')}", "dim"))
    if result["certain"]:
        legend = (
            "figures are medians; p: how often runs that do not differ would show as much in any"
            f" row; {result['alpha']:g} and less is a change. visible from: the least change that"
            " these runs could have shown."
        )
        parts.append(wrapped(Text(legend, "dim"), width))
    return parts


def _named(row: Row) -> str:
    """What the row is of."""
    name = escaped(row["name"])
    if row["kind"] == "line":
        return f"others wait for {name}"
    if row["kind"] == "lock":
        return f"waits for the lock of {name}"
    return f"{name or 'the run'} {_MEASURES[row['measure']]}"


def _windows(windows: Row, width: int, top: int) -> list[RenderableType]:
    """How the figures of one run spread over its tenths."""
    groups = sorted(
        {
            (group, measure)
            for side in windows.values()
            for group, row in side.items()
            for measure in row
        },
        key=lambda key: (
            -max(max(windows[side].get(key[0], {}).get(key[1], [0])) for side in windows)
        ),
    )[:top]
    told = [
        (group, measure)
        for group, measure in groups
        if any(any(windows[side].get(group, {}).get(measure, ())) for side in windows)
    ]
    if not told:
        return []
    names = Column(
        "in each tenth of the run",
        [f"{escaped(group)} {_MEASURES[measure]}" for group, measure in told],
        left=True,
    )
    columns = [
        Column(
            side, [_spread(windows[side].get(group, {}).get(measure)) for group, measure in told]
        )
        for side in ("before", "after")
    ]
    made = table(names, columns, width, "…")
    legend = (
        "share of a tenth of the run, of all threads of that name together (so above 100 % of"
        " several): the middle one of the ten, and the least and the most"
    )
    return [
        Text(),
        *([made] if made else lines(names, columns)),
        wrapped(Text(legend, "dim"), width),
    ]


def _spread(values: list[float] | None) -> str:
    if not values:
        return "-"
    low, middle, high = (
        f"{100 * value:.3g}" for value in (min(values), median(values), max(values))
    )
    return f"{middle} % ({low} to {high})"


def _figure(values: list[float]) -> str:
    return duration(round(median(values)))


def _change(row: Row) -> str:
    if row["change"] is None or not math.isfinite(row["change"]):
        return "new"
    change = 100 * row["change"]
    if -100 < change < _NEARLY_ALL:  # rounded, it would be all
        return f"{_NEARLY_ALL:+.1f} %"
    return f"{change:+.1f} %"


def _visible(row: Row) -> str:
    share = row["visible"]
    return f"±{100 * share:.2g} %" if share < 10 else "-"
