"""Locks, conditions and atomic sections on the page."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from gilscope.analysis.places import place
from gilscope.analysis.units import counted, duration
from gilscope.viewers.layout import Column, room_for_names
from gilscope.viewers.terminal_page import SMALL, Page

Row = dict[str, Any]

_WORTH_NS = 1_000_000  # waited for a lock in all, below which a page leaves it out
_WAITERS = 3  # for sections, by name


def sync_tables(summary: Row, page: Page) -> list[RenderableType]:
    """Conditions, locks and atomic sections, where there are any."""
    tables: list[list[RenderableType]] = []
    for key, table_of in (("conditions", _conditions), ("locks", _locks)):
        rows = [(p, row) for p in summary["processes"] for row in p[key] or ()]
        if not rows:
            continue
        rows.sort(key=_locks_before_events if key == "locks" else _longest_first)
        several = len({process["id"] for process, _ in rows}) > 1
        shown = rows[: page.top]
        if not page.singles:  # an idle worker, a join: there was nothing to do
            shown = [entry for entry in shown if _of_account(entry[1])]
        if key == "locks":  # each start of a thread waits for a lock, for microseconds
            least = SMALL * max(row["wait_ns"]["sum"] or 0 for _, row in rows)
            shown = [entry for entry in shown if (entry[1]["wait_ns"]["sum"] or 0) >= least]
        elif not page.singles:  # or for a condition of its own
            shown = [entry for entry in shown if entry[1]["waits"] != 1] or shown[:1]
        made = table_of(shown, several, page) if shown else []
        if len(rows) > len(shown) and (shown or page.singles):
            more = counted(len(rows) - len(shown), f"more {key[:-1]}")
            made.append(Text(f"and {more}", "dim"))
        tables.append(made)
    sections = [p for p in summary["processes"] if p["atomic"] and p["atomic"]["sections"]]
    if sections:
        several = len(sections) > 1
        tables.append([_atomic(p, page.names, several) for p in sections[: page.gils]])
    parts: list[RenderableType] = []
    for made in filter(None, tables):
        parts += [*([Text()] if parts else []), *made]
    return parts


def _of_account(row: Row) -> bool:
    return row["waits_for"] == "lock" and (row["wait_ns"]["sum"] or 0) >= _WORTH_NS


def _longest_first(entry: tuple[Row, Row]) -> int:
    return -(entry[1]["wait_ns"]["sum"] or 0)


def _locks_before_events(entry: tuple[Row, Row]) -> tuple[bool, int]:
    """Who waits for an event waits for something to do."""
    return entry[1]["waits_for"] == "event", _longest_first(entry)


def _objects(header: str, rows: list[tuple[Row, Row]], several: bool, *, address: bool) -> Column:
    names = []
    for process, row in rows:
        name = row["object"] or row["library"] or "not known"
        name = name if address else name.split(" at ")[0]
        names.append(f"{name} of {process['pid']}" if several else name)
    return Column(header, names, left=True)


def _conditions(rows: list[tuple[Row, Row]], several: bool, page: Page) -> list[RenderableType]:
    kind = Column("kind", [row["kind"] for _, row in rows], left=True)
    columns = [kind, _counts(rows, "waits"), _counts(rows, "notifies")]
    columns += _times(rows, "wakeup_ns", {"p50": "woken in p50", "p99": "p99"})
    columns += _times(rows, "gil_ns", {"p50": "with GIL p50", "p99": "p99"})
    more = _times(rows, "wait_ns", {"p50": "waited p50", "p99": "p99", "max": "max"})
    more.append(_counts(rows, "timeouts"))
    names = _objects("condition", rows, several, address=True)
    short = _objects("condition", rows, several, address=False)
    told = [
        Text(f"{name}: {_first(row, page.names)}", "dim")
        for name, (_, row) in zip(short.cells, rows, strict=True)
    ]
    if room_for_names([*columns, *more], page.width) >= names.width:
        return [*page.table(names, [*columns, *more]), *told]
    return [*page.table(short, columns), *told]


def _first(condition: Row, names: dict[int, str]) -> str:
    """What tells a condition from others: who used it first, and where."""
    parts = []
    if condition["waiter"] is not None:
        where = f" {place(site)}" if (site := condition["waiter_site"]) else ""
        parts.append(f"{names[condition['waiter']]} waited{where}")
    if condition["notifier"] is not None:
        parts.append(f"{names[condition['notifier']]} notified")
    return ", ".join(parts)


def _locks(rows: list[tuple[Row, Row]], several: bool, page: Page) -> list[RenderableType]:
    kind = Column("kind", [row["kind"] for _, row in rows], left=True)
    columns = [kind, _counts(rows, "waits"), _counts(rows, "timeouts")]
    waited = {"p50": "waited p50", "p99": "p99", "max": "max", "sum": "in all"}
    columns += _times(rows, "wait_ns", waited)
    names = _objects("lock", rows, several, address=True)
    if room_for_names(columns, page.width) < names.width:
        names = _objects("lock", rows, several, address=False)
    told = [
        Text(f"{name}: {text}", "dim")
        for name, (_, row) in zip(names.cells, rows, strict=True)
        if (text := _blamed(row, page.names))
    ]
    return [*page.table(names, columns), *told]


def _blamed(lock: Row, names: dict[int, str]) -> str:
    """What it is, and who waited longest, where, and who had it meanwhile."""
    parts = [lock["library"]] if lock["library"] and lock["object"] else []
    if lock["waits_for"] == "lock" and (largest := lock["blame"][0])["waiter_site"]:
        text = f"{names[largest['waiter']]} waited {duration(largest['wait_ns'])}"
        text += f" {place(largest['waiter_site'])}"
        if largest["holder"] is not None:
            text += f" while {names[largest['holder']]} had it"
        if largest["holder_site"]:
            text += f", given back {place(largest['holder_site'])}"
        parts.append(text)
    return "; ".join(parts)


def _counts(rows: list[tuple[Row, Row]], key: str) -> Column:
    return Column(key, [f"{row[key]:,}" for _, row in rows])


def _times(rows: list[tuple[Row, Row]], key: str, headers: dict[str, str]) -> list[Column]:
    """A column for each of the keys of a distribution."""
    return [
        Column(header, [_cell(row[key], of) for _, row in rows]) for of, header in headers.items()
    ]


def _cell(distribution: Row, key: str) -> str:
    return duration(distribution[key]) if distribution["count"] else "-"


def _atomic(process: Row, names: dict[int, str], several: bool) -> Text:
    atomic = process["atomic"]
    sections, deferred = atomic["sections"], atomic["deferred_yields"]
    held, p50, p99, longest = (
        _cell(atomic["held_ns"], key) for key in ("sum", "p50", "p99", "max")
    )
    of = f" of process {process['pid']}" if several else ""
    text = (
        f"{counted(sections, 'atomic section')}{of}: held the GIL {held} in all"
        f" (p50 {p50}, p99 {p99}, max {longest}),"
        f" {counted(deferred, 'yield')} held back"
    )
    told = [f"{names[w['thread']]} {duration(w['wait_ns'])}" for w in atomic["waiters"][:_WAITERS]]
    return Text(text + (f"; waited for them: {', '.join(told)}" if told else ""))
