"""The charts of a report as Vega-Lite specifications, made by Altair.

Colours are variables of the page's style sheet, so that light, dark and print need no second
drawing. Each chart is one view as wide as the page leaves it.
"""

from __future__ import annotations

import math
from typing import Any

import altair as alt

Row = dict[str, Any]
Spec = dict[str, Any]

COLOURS = {
    "held": "var(--held)",
    "held, running": "var(--held)",
    "held, preempted": "var(--held-preempted)",
    "held, off": "var(--held-off)",
    "waiting": "var(--waiting)",
    "outside": "var(--outside)",
    "outside, running": "var(--outside-running)",
    "outside, preempted": "var(--outside-preempted)",
    "outside, off": "var(--outside)",
    "unknown": "var(--unknown)",
}
GROUP_COLOURS = [f"var(--group-{n})" for n in range(1, 7)]
LOST = "records missing"  # a lane of the timeline, as the page's script calls it
LANE = 34  # pixels
LABEL = 150  # pixels at most of a name

# A power of ten of ns, as a label.
_DURATION = (
    "datum.value < 1e3 ? datum.value + ' ns' : datum.value < 1e6 ? datum.value / 1e3 + ' µs'"
    " : datum.value < 1e9 ? datum.value / 1e6 + ' ms' : datum.value / 1e9 + ' s'"
)


def lives(rows: list[Row]) -> Spec:
    """A bar a group: the shares of its life."""
    groups = list(dict.fromkeys(row["group"] for row in rows))
    parts = [part for part in COLOURS if any(row["part"] == part for row in rows)]
    values = [{**row, "order": parts.index(row["part"])} for row in rows]
    chart = (
        alt.Chart(alt.InlineData(values=values))
        .mark_bar()
        .encode(
            y=_groups_axis("group", groups),
            x=alt.X("share:Q", stack="zero", title="share of their lives",
                    scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5)),
            color=_colours("part", parts),
            order=alt.Order("order:Q"),
            tooltip=["group:N", "part:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )  # fmt: skip
    return _finished(chart, LANE * len(groups))


def waits(rows: list[Row], kind: str) -> Spec:
    """How many waits were how long, on a log axis."""
    mine = [row for row in rows if row["kind"] == kind]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    chart = (
        alt.Chart(alt.InlineData(values=mine))
        .mark_bar(binSpacing=1)
        .encode(
            x=alt.X("from_ns:Q", scale=alt.Scale(type="log", nice=False), bin="binned",
                    title="length of a wait",
                    axis=alt.Axis(labelExpr=_DURATION, grid=False, values=_powers(mine))),
            x2="to_ns:Q",
            y=alt.Y("waits:Q", title="waits", axis=alt.Axis(tickCount=4, format="~s")),
            color=alt.Color("group:N", title=None, sort=groups,
                            scale=alt.Scale(domain=groups, range=GROUP_COLOURS)),
            tooltip=["group:N", alt.Tooltip("waits:Q", format=",")],
        )
    )  # fmt: skip
    return _finished(chart, 160)


def _powers(rows: list[Row]) -> list[float]:
    """The powers of ten that bars cover."""
    ends = [row[side] for row in rows for side in ("from_ns", "to_ns")]
    first, last = math.floor(math.log10(min(ends))), math.ceil(math.log10(max(ends)))
    return [10.0**power for power in range(first, last + 1)]


def blame(rows: list[Row]) -> Spec:
    """Who waited (down) because of whom (across)."""
    waiters = list(dict.fromkeys(row["waiter"] for row in rows))
    totals = {row["holder"]: 0 for row in rows}
    for row in rows:
        totals[row["holder"]] += row["wait_ns"]
    holders = sorted(totals, key=lambda name: (name.startswith("("), -totals[name]))
    most = max((row["wait_ns"] for row in rows), default=1)
    values = [{**row, "share": row["wait_ns"] / most} for row in rows if row["wait_ns"]]
    chart = (
        alt.Chart(alt.InlineData(values=values))
        .mark_rect(fill="var(--waiting)", stroke="var(--line)")
        .encode(
            y=_groups_axis("waiter", waiters).title("waited"),
            x=alt.X("holder:N", sort=holders, title="while it was held by",
                    scale=alt.Scale(domain=holders),
                    axis=alt.Axis(orient="top", labelAngle=-35, labelLimit=110)),
            fillOpacity=alt.FillOpacity("share:Q", legend=None,
                                        scale=alt.Scale(domain=[0, 1], range=[0.06, 1])),
            tooltip=["waiter:N", "holder:N", alt.Tooltip("text:N", title="waited")],
        )
    )  # fmt: skip
    slanted = {"left": 5, "right": 60, "top": 5, "bottom": 5}  # room for the last name
    return {**_finished(chart, 26 * len(waiters)), "padding": slanted}


def timeline(lanes: list[str], span_s: float, *, lost: bool) -> Spec:
    """Two strips a lane, when it held and when it waited, and a lane for what was lost; the page's
    script gives the data, and moves the ends of the axis, the parameters `low` and `high`."""
    states = {"held": "var(--held)", "waiting": "var(--waiting)"}
    if lost:
        states["lost"] = "var(--unknown)"
        lanes = [*lanes, LOST]
    chart = (
        alt.Chart(alt.NamedData(name="slots"))
        .mark_rect(clip=True)
        .encode(
            y=_groups_axis("lane", lanes).scale(domain=lanes, paddingInner=0.25),
            yOffset=alt.YOffset("state:N", scale=alt.Scale(domain=list(states))),
            x=alt.X("a:Q", title="seconds since the recording began",
                    axis=alt.Axis(tickCount=8, labelOverlap=True),
                    scale=alt.Scale(domainMin=alt.ExprRef("low"), domainMax=alt.ExprRef("high"),
                                    nice=False, zero=False)),
            x2="b:Q",
            color=alt.Color("state:N", title=None, scale=alt.Scale(
                domain=list(states), range=list(states.values()))),
            opacity=alt.Opacity("share:Q", legend=None, scale=alt.Scale(
                domain=[0, 1], range=[0.12, 1])),
            tooltip=["lane:N", "state:N", alt.Tooltip("share:Q", format=".0%"),
                     alt.Tooltip("a:Q", title="from", format=".6f"),
                     alt.Tooltip("b:Q", title="to", format=".6f")],
        )
        .add_params(
            alt.param(name="low", value=0),
            alt.param(name="high", value=span_s),
            alt.selection_interval(name="brush", encodings=["x"]),
        )
    )  # fmt: skip
    return _finished(chart, LANE * max(len(lanes), 1))


def _groups_axis(field: str, groups: list[str]) -> alt.Y:
    return alt.Y(
        f"{field}:N",
        sort=groups,
        title=None,
        axis=alt.Axis(labelLimit=LABEL, ticks=False, domain=False),
    )


def _colours(field: str, parts: list[str]) -> alt.Color:
    return alt.Color(
        f"{field}:N",
        title=None,
        scale=alt.Scale(domain=parts, range=[COLOURS[part] for part in parts]),
    )


def _finished(chart: alt.Chart, height: int) -> Spec:
    style: dict[str, Any] = {
        "labelColor": "var(--text)",
        "titleColor": "var(--text)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "titleFontWeight": "normal",
    }
    chart = (
        chart.properties(width="container", height=height)
        .configure(background="transparent", font="system-ui, sans-serif", aria=False)
        .configure_view(stroke=None)
        .configure_axis(**style)
        .configure_legend(
            orient="bottom",
            columns=3,
            labelColor="var(--text)",
            symbolType="square",
            labelLimit=150,
        )
    )
    spec: Spec = chart.to_dict(validate=True)
    spec.pop("$schema", None)
    return spec
