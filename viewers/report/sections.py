"""The sections of a report as HTML. Where a number is not known, they say so in its place."""

from __future__ import annotations

import datetime
from typing import Any

from gilscope.analysis.places import place
from gilscope.analysis.units import counted, duration, percent
from gilscope.viewers.report import figures
from gilscope.viewers.report.flame import Flame
from gilscope.viewers.report.groups import Groups
from gilscope.viewers.report.html import Html, code, table, tag
from gilscope.viewers.report.timeline import TABLE_SLOTS, Timeline

Row = dict[str, Any]

NOT_RECORDED, NOT_KNOWN = "not recorded", "not known"
STORIES = 10
OBJECTS = 40


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
    names = _names(summary)
    rows = []
    for wait in waits:
        holder = names[wait["holder"]] if wait["holder"] is not None else NOT_KNOWN
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
                names[wait["waiter"]],
                _site(wait["waiter_site"]),
                duration(wait["wait_ns"]),
                holder,
                _site(wait["holder_site"]),
            )
        )
    headers = ("at", "who waited", "came back", "for", "because of", "held it")
    return [table("The longest waits", headers, rows, left=6)]


def _names(summary: Row) -> dict[int, str]:
    from gilscope.analysis.names import names_of  # noqa: PLC0415

    return names_of(t for p in summary["processes"] for t in p["threads"])


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


def percent_of(share: float) -> str:
    """A share of 0 to 1."""
    return percent(int(share * 1_000_000), 1_000_000)


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
    names = _names(summary)
    rows = sorted(
        ((p, t) for p in summary["processes"] for t in p["threads"] if t["gil"] is not None),
        key=lambda entry: -entry[1]["waiting_ns"],
    )
    cells = [
        (
            names[t["id"]],
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


def objects(summary: Row) -> Html:
    """Locks, conditions, atomic sections, collections."""
    parts = []
    for key, title in (("locks", "Locks"), ("conditions", "Conditions")):
        parts += [tag("h3", title), *_objects(summary, key)]
    parts += [tag("h3", "Atomic sections"), *_sections(summary)]
    parts += [tag("h3", "Garbage collections"), *_collections(summary)]
    return section("locks", "Locks, conditions, sections, collections", parts)


def _objects(summary: Row, key: str) -> list[Html]:
    rows = figures.objects_of(summary, key)
    blind = [p for p in summary["processes"] if p[key] is None and p["interpreter"] == "gil"]
    parts = []
    if rows:
        names = _names(summary)
        cells = [
            (
                _object(row),
                row["kind"],
                row["waits_for"],
                str(p["pid"]),
                f"{row['waits']:,}",
                time(row["wait_ns"]["sum"]),
                *(time(row["wait_ns"][q]) for q in ("p50", "p99", "max")),
                *((time(row["wakeup_ns"]["p50"]),) if key == "conditions" else ()),
                _ended_by(row, names),
            )
            for p, row in rows[:OBJECTS]
        ]
        headers = ["object", "kind", "for a", "process", "waits", "waited", "p50", "p99", "max"]
        headers += ["wakeup p50"] if key == "conditions" else []
        parts.append(
            table(
                f"Waits for {key}, the longest first; those for an event (something to do) last",
                [*headers, "had it longest"],
                cells,
                left=4,
            )
        )
        if len(rows) > OBJECTS:
            parts.append(paragraph(f"And {len(rows) - OBJECTS:,} more {key}."))
    elif not blind:
        parts.append(paragraph("There were no waits."))
    if blind:
        parts.append(paragraph(f"{_processes(blind)}: {NOT_RECORDED}."))
    return parts


def _processes(rows: list[Row]) -> str:
    if len(rows) > 3:
        return f"Of {len(rows):,} processes"
    return "Process " + ", ".join(str(p["pid"]) for p in rows)


def _object(row: Row) -> str:
    """Its address and what the library calls it, as far as they are known."""
    its, library = row["object"], row.get("library")
    if its and library:
        return f"{its} ({library})"
    return str(its or library or NOT_KNOWN)


def _ended_by(row: Row, names: dict[int, str]) -> str:
    """Whom most of the waiting for an object was due to, where the summary tells."""
    if "blame" not in row:
        return NOT_RECORDED
    known = [b for b in row["blame"] if b["holder"] is not None]
    if not known:
        return NOT_KNOWN
    worst = max(known, key=lambda b: b["wait_ns"])
    site = worst.get("holder_site")
    return f"{names[worst['holder']]} {place(site)}" if site else names[worst["holder"]]


def _sections(summary: Row) -> list[Html]:
    rows = figures.sections_of(summary)
    if not rows:
        return [paragraph("There were none, or the interpreter does not tell of them.")]
    cells = [
        (
            str(p["pid"]),
            f"{atomic['sections']:,}",
            f"{atomic['deferred_yields']:,}",
            *(time(atomic[key][q]) for key in ("length_ns", "held_ns") for q in ("p50", "max")),
        )
        for p, atomic in rows
    ]
    headers = (
        *("process", "sections", "yields held back", "length p50", "length max"),
        *("held p50", "held max"),
    )
    return [table("Atomic sections", headers, cells)]


def _collections(summary: Row) -> list[Html]:
    rows = figures.collections_of(summary)
    if not rows:
        return [paragraph(f"{NOT_RECORDED[0].upper()}{NOT_RECORDED[1:]}.")]
    cells = [
        (str(p["pid"]), *(time(None, NOT_KNOWN) if v is None else v for v in (
            None if gc["collections"] is None else f"{gc['collections']:,}",
            None if gc["held_ns"] is None else duration(gc["held_ns"]),
        )))
        for p, gc in rows
        if gc["collections"] != 0
    ]  # fmt: skip
    parts = []
    if cells:
        headers = ("process", "collections", "held the GIL")
        parts.append(table("Garbage collections", headers, cells))
    if none := len(rows) - len(cells):
        parts.append(paragraph(_had_none(none)))
    return parts


def _had_none(processes: int) -> str:
    return "One process had none." if processes == 1 else f"{processes:,} processes had none."


def recorded(summary: Row, trace_name: str, version: str, began_ns: int) -> Html:
    """How it was recorded, and how far the numbers can be trusted."""
    began = datetime.datetime.fromtimestamp(began_ns / 1e9, datetime.timezone.utc)
    policy, clock = summary["policy"], summary["clock"]
    lost = summary["lost_events"]
    facts = [
        ("command", " ".join(summary["command"]) or NOT_KNOWN),
        ("began", f"{began:%Y-%m-%d %H:%M:%S} UTC"),
        ("lasted", duration(summary["duration_ns"])),
        ("exit code", NOT_KNOWN if summary["exit_code"] is None else str(summary["exit_code"])),
        ("events", f"{summary['events']:,}"),
        ("events lost", f"{lost:,}" + (": what happened there is not known" if lost else "")),
        ("recording stopped early", _stopped(summary)),
        ("policy", _policy(policy)),
        ("switch interval", time(policy["switch_interval_ns"], NOT_KNOWN)),
        ("clock", f"{clock['source']}, {clock['clamped']:,} stamps raised"),
        ("recorded by", f"gilscope {version}"),
        ("trace", trace_name),
    ]
    rows = [
        (
            str(p["pid"]),
            " ".join(p["command"]) or NOT_KNOWN,
            p["python"] or NOT_KNOWN,
            p["feed"] or "none",
            {"told": "recorded", "unknown": "its frames could not be read"}.get(
                p["stacks"], "none was due"
            ),
            duration(p["life_ns"]),
            "not known" if p["attached_at_ns"] else "seen",
            f"{p['lost_events']:,}",
            "not seen" if p["unclean_end"] else "seen",
        )
        for p in sorted(summary["processes"], key=lambda p: p["interpreter"] != "gil")
    ]
    headers = ("process", "command", "Python", "feed", "stacks", "life", "its begin", "lost events",
               "its end")  # fmt: skip
    notes = [tag("li", code(f["text"])) for f in summary["findings"] if f["severity"] == "note"]
    return section(
        "recording",
        "How it was recorded",
        table("The recording", ("what", "value"), facts, left=2),
        table("Processes", headers, rows, left=5),
        _gils(summary),
        tag("ul", notes) if notes else None,
    )


def _stopped(summary: Row) -> str:
    if not summary["stopped"]:
        return "no"
    after = time(summary["stopped_after_ns"], NOT_KNOWN)
    return f"{summary['stopped']}, after {after}; what came later is not known"


def _policy(policy: Row) -> str:
    if policy["grace_ns"] is None:
        return str(policy["name"])
    return f"{policy['name']}, grace {duration(policy['grace_ns'])}"


def _gils(summary: Row) -> Html:
    used = [
        (p, g) for p in summary["processes"] for g in p["gils"] if g["held_ns"] or g["max_waiters"]
    ]
    used.sort(key=lambda entry: -entry[1]["contended_ns"])
    cells = [
        (
            f"{g['id']} of process {p['pid']}",
            percent(g["held_ns"], p["life_ns"]),
            percent(g["contended_ns"], p["life_ns"]),
            duration(g["unknown_ns"]) if g["unknown_ns"] else "none",
            f"{g['switches']:,}",
            f"{g['forced_yields']:,}",
            f"{g['max_waiters']:,}",
        )
        for p, g in used
    ]
    headers = (
        *("GIL", "held", "while others waited", "not known", "switches", "forced yields"),
        "most waiting at once",
    )
    return table("GILs, the most contended first", headers, cells)
