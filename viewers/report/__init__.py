"""A report: one HTML file that needs nothing beside it and asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

import vl_convert

from gilscope import __version__
from gilscope.analysis.summary import summarise
from gilscope.analysis.units import duration
from gilscope.safe_text import escaped
from gilscope.viewers.report import charts, figures, sections
from gilscope.viewers.report.flame import Flame
from gilscope.viewers.report.groups import shown_groups
from gilscope.viewers.report.html import Html, data, tag
from gilscope.viewers.report.objects import objects
from gilscope.viewers.report.recording import recorded
from gilscope.viewers.report.timeline import Timeline

if TYPE_CHECKING:
    from gilscope.trace.model import Trace

CHARTED = 16  # groups in the chart of lives
_EMBED = "window.vegaEmbed = vegaEmbed;"  # what the page takes of the bundle

_SECTIONS = (
    ("verdict", "Verdict"),
    ("causes", "Causes"),
    ("timeline", "Timeline"),
    ("lives", "Held, waiting, outside"),
    ("waits", "Waits"),
    ("blame", "Who and whom"),
    ("flame", "Flame graph"),
    ("locks", "Locks"),
    ("threads", "Threads"),
    ("recording", "Recording"),
)


def report(read: Callable[[], Trace], name: str) -> str:
    """The page of the trace that `read()` gives; `name` is what to call it."""
    # The trace is gone before Vega's bundle is made, so their memory does not add up.
    title, content, values = _content(read(), name)
    return _page(title, content, values, vl_convert.javascript_bundle(_EMBED))


def _content(trace: Trace, name: str) -> tuple[str, list[Html], dict[str, Any]]:
    summary = summarise(trace)
    groups = shown_groups(summary)
    timeline, flame = Timeline(trace, groups), Flame(trace, groups)
    bars = figures.bars_of(trace, groups)
    lives, blame = figures.lives_of(groups), figures.blame_of(summary, groups)
    shown = {group.label for group in groups.table[:CHARTED]}
    specs = {
        "timeline": charts.timeline(
            timeline.lanes, timeline.span_ns / 1e9, lost=bool(timeline.lost)
        ),
        "lives": charts.lives([row for row in lives if row["group"] in shown]),
        **{f"waits-{kind}": charts.waits(bars, kind) for kind in {row["kind"] for row in bars}},
    }
    if any(row["wait_ns"] for row in blame):
        told = [{**row, "text": duration(row["wait_ns"])} for row in blame]
        specs["blame"] = charts.blame(told)
    metadata = trace.metadata
    content = [
        sections.verdict(summary),
        sections.causes(summary, groups),
        sections.timeline(timeline),
        sections.lives(groups, lives, CHARTED),
        sections.waits(figures.waits_of(groups)),
        sections.blame(blame),
        sections.flame(flame),
        objects(summary),
        sections.threads(summary),
        recorded(summary, name, metadata.gilscope, metadata.start_ns + metadata.realtime_offset_ns),
    ]
    title = f"gilscope: {escaped(' '.join(summary['command'])) or 'a recording'}"
    return title, content, {"charts": specs, "timeline": timeline.json(), "flame": flame.trees}


def _page(title: str, content: list[Html], values: dict[str, Any], bundle: str) -> str:
    scripts = [f"(() => {{\n{bundle}\n}})();", _asset("flame.js"), _asset("report.js")]
    policy = [
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none';",
        "form-action 'none'; script-src",
        *(f"'sha256-{_digest(script)}'" for script in scripts),
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=" ".join(policy)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=f"gilscope {__version__}"),
        tag("title", title),
        Html(f"<style>{_asset('report.css')}</style>"),
    )
    links = [tag("a", label, href=f"#{id}") for id, label in _SECTIONS]
    body = tag(
        "body",
        tag("a", "Skip to the verdict", href="#verdict", class_="skip"),
        tag("header", tag("h1", title), tag("nav", links, aria_label="Sections")),
        tag("main", content),
        tag(
            "footer",
            f"Made by gilscope {__version__}. Charts by Vega-Lite (BSD-3-Clause) and"
            " d3-flame-graph (Apache-2.0), whose licences stand in this file.",
        ),
        *(data(value, f"data-{id}") for id, value in values.items()),
        Html(f"<!--\n{_asset('vega.LICENSE.txt')}\n-->"),
        *(Html(f"<script>{script}</script>") for script in scripts),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _asset(name: str) -> str:
    return (resources.files(__name__) / "assets" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
