"""What the sections of a report are made of."""

from __future__ import annotations

from typing import Any

from gilscope.analysis.names import names_of
from gilscope.analysis.units import duration, percent
from gilscope.viewers.report.html import Html, code, tag

Row = dict[str, Any]

NOT_RECORDED, NOT_KNOWN = "not recorded", "not known"


def time(ns: int | None, missing: str = "-") -> str:
    """A length for people."""
    return missing if ns is None else duration(ns)


def chart(name: str, label: str, *after: Html) -> Html:
    """A place that the page's script draws the chart `name` into; its table follows."""
    drawn = tag("div", class_="chart", data_chart=name, role="img", aria_label=label)
    return tag("figure", drawn, *after)


def folded(title: str, *content: Html) -> Html:
    """What is opened by a click or a key."""
    return tag("details", tag("summary", title), *content)


def section(id: str, title: str, *content: Html | list[Html] | None) -> Html:
    """A section with its heading."""
    heading = tag("h2", title, id=f"{id}-title")
    return tag("section", heading, *content, id=id, aria_labelledby=f"{id}-title")


def paragraph(words: str, class_: str | None = None) -> Html:
    """A paragraph with `code` in it."""
    return tag("p", code(words), class_=class_)


def names(summary: Row) -> dict[int, str]:
    """Of all threads, by their number in the trace."""
    return names_of(t for p in summary["processes"] for t in p["threads"])


def percent_of(share: float) -> str:
    """A share of 0 to 1."""
    return percent(int(share * 1_000_000), 1_000_000)
