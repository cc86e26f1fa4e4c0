"""The section of locks, conditions, atomic sections and collections."""

from __future__ import annotations

from typing import Any

from gilscope.analysis.places import place
from gilscope.analysis.units import duration
from gilscope.viewers.report import figures
from gilscope.viewers.report.html import Html, table, tag
from gilscope.viewers.report.parts import NOT_KNOWN, NOT_RECORDED, names, paragraph, section, time

Row = dict[str, Any]

OBJECTS = 40


def objects(summary: Row) -> Html:
    """Locks, conditions, atomic sections, collections."""
    made = []
    for key, title in (("locks", "Locks"), ("conditions", "Conditions")):
        made += [tag("h3", title), *_objects(summary, key)]
    made += [tag("h3", "Atomic sections"), *_sections(summary)]
    made += [tag("h3", "Garbage collections"), *_collections(summary)]
    return section("locks", "Locks, conditions, sections, collections", made)


def _objects(summary: Row, key: str) -> list[Html]:
    rows = figures.objects_of(summary, key)
    blind = [p for p in summary["processes"] if p[key] is None and p["interpreter"] == "gil"]
    made = []
    if rows:
        named = names(summary)
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
                _ended_by(row, named),
            )
            for p, row in rows[:OBJECTS]
        ]
        headers = ["object", "kind", "for a", "process", "waits", "waited", "p50", "p99", "max"]
        headers += ["wakeup p50"] if key == "conditions" else []
        made.append(
            table(
                f"Waits for {key}, the longest first; those for an event (something to do) last",
                [*headers, "had it longest"],
                cells,
                left=4,
            )
        )
        if len(rows) > OBJECTS:
            made.append(paragraph(f"And {len(rows) - OBJECTS:,} more {key}."))
    elif not blind:
        made.append(paragraph("There were no waits."))
    if blind:
        made.append(paragraph(f"{_processes(blind)}: {NOT_RECORDED}."))
    return made


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


def _ended_by(row: Row, named: dict[int, str]) -> str:
    """Whom most of the waiting for an object was due to, where the summary tells."""
    if "blame" not in row:
        return NOT_RECORDED
    known = [b for b in row["blame"] if b["holder"] is not None]
    if not known:
        return NOT_KNOWN
    worst = max(known, key=lambda b: b["wait_ns"])
    site = worst.get("holder_site")
    return f"{named[worst['holder']]} {place(site)}" if site else named[worst["holder"]]


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
    made = []
    if cells:
        headers = ("process", "collections", "held the GIL")
        made.append(table("Garbage collections", headers, cells))
    if none := len(rows) - len(cells):
        made.append(paragraph(_had_none(none)))
    return made


def _had_none(processes: int) -> str:
    return "One process had none." if processes == 1 else f"{processes:,} processes had none."
