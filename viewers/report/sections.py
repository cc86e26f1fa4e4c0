"""What happened, in sections. Where a number is not known, they say so in its place."""

from __future__ import annotations

from typing import Any

from gilscope.analysis.places import place
from gilscope.analysis.units import counted, duration, percent
from gilscope.viewers.report import figures
from gilscope.viewers.report.flame import Flame
from gilscope.viewers.report.groups import Groups
from gilscope.viewers.report.html import Html, code, table, tag
from gilscope.viewers.report.parts import (
    NOT_KNOWN,
    NOT_RECORDED,
    chart,
    folded,
    names,
    paragraph,
    percent_of,
    section,
    time,
)
from gilscope.viewers.report.timeline import TABLE_SLOTS, Timeline

Row = dict[str, Any]

STORIES = 10


def verdict(summary: Row) -> Html:
    """The findings, but for notes."""
    told = [f for f in summary["findings"] if f["severity"] != "note"]
    items = [
        tag(
            "li",
            tag("strong", {"problem": "Problem", "ok": "OK", "warning": "Warning"}[f["severity"]]),
            " ",
            code(f["text"]),
            class_=f["severity"],
        )
        for f in told
    ]
    return section("verdict", "Verdict", tag("ul", items, class_="findings"))


def causes(summary: Row, groups: Groups) -> Html:
    """Who made others wait, by line; and the longest single waits."""
    rows, more = figures.causes_of(summary)
    waiting = sum(group.row["waiting_ns"] for group in groups.table)
    cells = [
        (
            row["where"],
            f"{row['holders']:,}",
            f"{row['waiters']:,}",
            f"{row['waits']:,}",
            duration(row["wait_ns"]),
            percent(row["wait_ns"], waiting),
            duration(row["held_ns"]) if row["held_ns"] else NOT_KNOWN,
        )
        for row in rows
    ]
    headers = (
        *("line", "threads that held", "that waited", "waits", "they waited", "of all waiting"),
        "it held",
    )
    made = table("Who made others wait, by line, the worst first", headers, cells)
    note = "A line is known of holds of 1 ms and more; `let go` marks where a hold ended."
    content = [made, paragraph(note, "note")]
    if more:
        content.append(paragraph(f"And {counted(more, 'more line')}."))
    return section("causes", "Causes, by line", content, *_stories(summary))


def _stories(summary: Row) -> list[Html]:
    waits = summary["longest_waits"][:STORIES]
    if not waits:
        return []
    named = names(summary)
    rows = []
    for wait in waits:
        holder = named[wait["holder"]] if wait["holder"] is not None else NOT_KNOWN
        if wait["free_ns"] > wait["held_ns"]:
            holder = f"the GIL was free for {duration(wait['free_ns'])}"
        zoom = tag(
            "button",
            f"{wait['at_ns'] / 1e9:.6f} s",
            type="button",
            class_="zoom",
            data_from=wait["at_ns"],
            data_to=wait["at_ns"] + wait["wait_ns"],
            title="show it in the timeline",
        )
        rows.append(
            (
                zoom,
                named[wait["waiter"]],
                _site(wait["waiter_site"]),
                duration(wait["wait_ns"]),
                holder,
                _site(wait["holder_site"]),
            )
        )
    headers = ("at", "who waited", "came back", "for", "because of", "held it")
    return [table("The longest waits", headers, rows, left=6)]


def _site(site: Row | None) -> str:
    return place(site) if site else NOT_RECORDED


def timeline(made: Timeline) -> Html:
    """The timeline with its buttons."""
    buttons = [
        tag("button", label, type="button", data_move=move)
        for label, move in (
            ("zoom in", "in"), ("zoom out", "out"), ("earlier", "left"), ("later", "right"),
            ("whole recording", "all"),
        )
    ]  # fmt: skip
    label = "When each group held the GIL and when it waited for it; a table follows."
    how = "Drag over a stretch to zoom into it, or use the buttons."
    if made.kept_from_ns > 1:
        how += (
            f" Holds and waits of {duration(made.kept_from_ns)} and more are exact;"
            " of shorter ones the strips show how much of the time they took."
        )
    else:
        how += " All holds and waits are exact."
    rows = [
        (
            label,
            *(f"{percent_of(held)} / {percent_of(waiting)}" for held, waiting in shares),
        )
        for label, shares in made.rows()
    ]
    step = made.span_ns / TABLE_SLOTS
    headers = ["held / waiting", *(f"from {duration(int(n * step))}" for n in range(TABLE_SLOTS))]
    return section(
        "timeline",
        "Timeline",
        paragraph(how),
        tag("p", buttons, tag("output", id="window", aria_live="polite"), class_="buttons"),
        chart("timeline", label),
        folded("Table of the timeline", table("Shares of the time, held / waiting", headers, rows)),
    )


def lives(groups: Groups, rows: list[Row], shown: int) -> Html:
    """What groups did with their time."""
    split = bool(groups.table) and all(group.split for group in groups.table)
    parts = list(dict.fromkeys(row["part"] for row in rows))
    of_group: dict[str, dict[str, Row]] = {}
    for row in rows:
        of_group.setdefault(row["group"], {})[row["part"]] = row
    cells = []
    for group in groups.table:
        mine = of_group[group.label]
        figures_of_it = [
            f"{duration(mine[part]['ns'])} ({percent_of(mine[part]['share'])})"
            if part in mine
            else "-"
            for part in parts
        ]
        cells.append((group.label, group.row["class"], *figures_of_it))
    notes = []
    if not split:
        notes.append(
            paragraph(f"When threads ran, and when others had the processor: {NOT_RECORDED}.")
        )
    if groups.quiet:
        notes.append(paragraph(f"{counted(groups.quiet, 'more thread')} never used a GIL."))
    if len(groups.table) > shown:
        notes.append(
            paragraph(f"The chart has the {shown} groups that waited longest, the table has all.")
        )
    headers = ("group", "kind", *parts)
    return section(
        "lives",
        "Held, waiting, outside",
        chart("lives", "Shares of each group's life; a table follows."),
        *notes,
        folded("Table of all groups", table("What each group did", headers, cells, left=2)),
    )


def threads(summary: Row) -> Html:
    """Every thread by itself."""
    named = names(summary)
    rows = sorted(
        ((p, t) for p in summary["processes"] for t in p["threads"] if t["gil"] is not None),
        key=lambda entry: -entry[1]["waiting_ns"],
    )
    cells = [
        (
            named[t["id"]],
            str(p["pid"]),
            t["class"],
            duration(t["life_ns"]),
            *(percent(t[f"{part}_ns"], t["life_ns"]) for part in ("held", "waiting", "outside")),
            percent(t["unknown_ns"], t["life_ns"]),
            duration(t["waiting_ns"]),
            *(time(t["io_wait_ns"][key]) for key in ("p50", "p99", "max")),
        )
        for p, t in rows
    ]
    headers = (
        *("thread", "process", "kind", "life", "held", "waiting", "outside", "unknown", "waited"),
        *("IO wait p50", "p99", "max"),
    )
    search = tag(
        "p",
        tag("label", "Show threads whose name has ", for_="thread-filter"),
        tag("input", type="search", id="thread-filter", data_filter="threads-table"),
        tag("output", id="threads-table-count", aria_live="polite"),
    )
    made = table("All threads, those that waited longest first", headers, cells, left=3,
                 id="threads-table")  # fmt: skip
    return section("threads", "Threads", search, made)


def waits(rows: list[Row]) -> Html:
    """How long single waits took."""
    kinds = {row["kind"] for row in rows}
    words = {
        "io": "IO waits: behind a release that the thread made by itself",
        "cpu": "CPU waits: behind a forced yield",
    }
    drawn = [
        tag("h3", words[kind])
        + (
            chart(f"waits-{kind}", f"{words[kind]}: how many waits were how long; a table follows.")
            if kind in kinds
            else paragraph("There were none.")
        )
        for kind in figures.KINDS
    ]
    cells = [
        (
            row["group"],
            row["kind"],
            f"{row['count']:,}",
            duration(row["sum"]),
            *(duration(row[key]) for key in ("p50", "p90", "p99", "max")),
        )
        for row in rows
    ]
    headers = ("group", "waits", "count", "in all", "p50", "p90", "p99", "max")
    return section(
        "waits",
        "How long waits took",
        [Html(part) for part in drawn],
        folded("Table of waits", table("Waits for the GIL, by group", headers, cells, left=2)),
    )


def blame(rows: list[Row]) -> Html:
    """Who waited because of whom."""
    waiting = sum(row["wait_ns"] for row in rows)
    cells = [
        (
            row["waiter"],
            row["holder"],
            duration(row["wait_ns"]),
            percent(row["wait_ns"], waiting),
        )
        for row in rows
    ]
    note = (
        "`(waking up)`: the GIL was free until the thread took it. `(overtaken)`: it was free, and"
        " another took it first."
    )
    headers = ("who waited", "while it was held by", "in all", "of all waiting")
    return section(
        "blame",
        "Who waited because of whom",
        chart("blame", "Waiting time by who waited and who held; a table follows.")
        if waiting
        else paragraph("Nobody waited."),
        paragraph(note, "note"),
        folded(
            "Table of who and whom",
            table("Waiting, by who waited and who held", headers, cells, left=2),
        ),
    )


def flame(made: Flame) -> Html:
    """Where the GIL was held, and what waiting that caused."""
    choices = [
        tag(
            "label",
            tag("input", type="radio", name="flame", value=value, checked=value == "held"),
            f" {label}",
        )
        for value, label in (("held", "time held"), ("waiting", "waiting caused"))
    ]
    search = tag(
        "label", "Search ", tag("input", type="search", id="flame-search", autocomplete="off")
    )
    reset = tag("button", "whole flame", type="button", id="flame-reset")
    cells = [
        (
            where,
            duration(held),
            percent(held, made.held_ns),
            duration(caused),
            percent(caused, made.caused_ns),
        )
        for where, held, caused in made.lines
    ]
    headers = ("last frame", "held the GIL", "of all", "others waited", "of all")
    note = [
        "A frame is as wide as it held the GIL (or as others waited because of that)."
        " `(let go)` marks where a hold ended: its time went there or before."
    ]
    if made.more_lines:
        note.append(f" The table has the {len(cells)} worst; there are {made.more_lines:,} more.")
    return section(
        "flame",
        "Flame graph of the GIL",
        tag("p", choices, " ", search, " ", reset, class_="buttons"),
        tag("p", "", id="flame-details", class_="note", aria_live="polite"),
        tag("figure", tag("div", id="flame-graph", role="img",
                          aria_label="Flame graph of the GIL; a table follows.")),
        paragraph("".join(note), "note"),
        folded("Table of last frames", table("Where the GIL was held", headers, cells)),
    )  # fmt: skip
