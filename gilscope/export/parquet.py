"""A trace as Parquet tables, for DuckDB, Polars, pandas, Spark: a file a table in one folder.

Text is printable: what is not stands as an escape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope import __version__
from gilscope.analysis.caused import caused_ns
from gilscope.analysis.sites import sites_of
from gilscope.analysis.summary import summarise
from gilscope.export.parquet_schema import SCHEMA, TABLES, Column
from gilscope.perfetto.writer import whole_file
from gilscope.safe_text import escaped
from gilscope.trace import story
from gilscope.trace.schema import SYNC_KIND_MASK, SYNC_OBJECT_MASK, SyncKind

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from gilscope.analysis.sites import Sites
    from gilscope.trace.model import Trace

Values = Any  # an array or a list, None or masked where a value is not known
Row = dict[str, Any]

ENDINGS = ("open", "released", "yielded", "acquired", "end", "lost", "timed-out", "exited")
_ROWS_A_GROUP = 1 << 20


def write_parquet(trace: Trace, folder: Path) -> None:
    """Write all tables; the folder is made where it is missing. Raises GilscopeError."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

    folder.mkdir(exist_ok=True)
    for name, table in tables(trace):
        with whole_file(folder / f"{name}.parquet", f"the table {name}") as file:
            pq.write_table(table, file, compression="zstd", row_group_size=_ROWS_A_GROUP)


def tables(trace: Trace) -> list[tuple[str, pa.Table]]:
    """Each table of TABLES by its name."""
    summary = summarise(trace)
    sites = sites_of(trace)
    makers: dict[str, Callable[[], Mapping[str, Values]]] = {
        "recording": lambda: _recording(trace),
        "processes": lambda: _processes(trace, summary),
        "gils": lambda: _gils(summary),
        "threads": lambda: _threads(trace, summary),
        "holds": lambda: _holds(trace, sites),
        "waits": lambda: _waits(trace, sites),
        "locks": lambda: _locks(trace),
        "blame": lambda: _blame(summary),
        "sections": lambda: _sections(trace),
        "gaps": lambda: _gaps(trace),
        "stacks": lambda: _stacks(trace),
    }
    return [(name, _table(name, columns, makers[name]())) for name, columns in TABLES.items()]


def _table(name: str, columns: Sequence[Column], values: Mapping[str, Values]) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415

    text = pa.dictionary(pa.int32(), pa.string())
    fields = [
        pa.field(
            column.name,
            text if column.type == "text" else pa.type_for_alias(column.type),
            metadata={
                "meaning": column.meaning,
                **({"unit": "ns"} if column.name.endswith("_ns") else {}),
            },
        )
        for column in columns
    ]
    assert set(values) == {column.name for column in columns}, name
    arrays = [_array(field.type, values[field.name]) for field in fields]
    metadata = {"gilscope.table": name, "gilscope.schema": str(SCHEMA), "gilscope": __version__}
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata))


def _array(kind: pa.DataType, values: Values) -> pa.Array:
    import pyarrow as pa  # noqa: PLC0415

    if isinstance(values, _Words):
        words = pa.array([escaped(word or "") for word in values.words], pa.string())
        return pa.DictionaryArray.from_arrays(
            pa.array(values.numbers.astype(np.int32), mask=values.unknown), words
        )
    if isinstance(values, np.ma.MaskedArray):
        return pa.array(values.data, mask=np.ma.getmaskarray(values)).cast(kind)
    if isinstance(values, np.ndarray):
        return pa.array(values).cast(kind)
    if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        values = [None if value is None else escaped(value) for value in values]
        return pa.array(values, pa.string()).cast(kind)
    return pa.array(values, kind)


class _Words:
    """A column of words, each a number into a list of them."""

    def __init__(
        self,
        words: Sequence[str | None],
        numbers: NDArray[Any],
        unknown: NDArray[np.bool_] | None = None,
    ) -> None:
        self.words = list(words)
        self.numbers = numbers
        self.unknown = unknown


def _fields(rows: NDArray[np.void], *names: str) -> dict[str, Values]:
    return {name: np.ascontiguousarray(rows[name]) for name in names}


def _length(rows: NDArray[np.void]) -> NDArray[np.int64]:
    length: NDArray[np.int64] = rows["end_ns"] - rows["start_ns"]
    return length


def _known(values: NDArray[Any], unknown: int) -> Values:
    return np.ma.masked_equal(values, unknown)


def _attributes(rows: Sequence[object], *names: str) -> dict[str, Values]:
    return {name: [getattr(row, name) for row in rows] for name in names}


def _of(rows: Sequence[Row], *names: str) -> dict[str, Values]:
    return {name: [row[name] for row in rows] for name in names}


def _recording(trace: Trace) -> Mapping[str, Values]:
    metadata = trace.metadata
    same = ("start_ns", "end_ns", "realtime_offset_ns", "lost_events", "stopped", "exit_code")
    return {
        "command": [" ".join(metadata.command)],
        **_attributes([metadata], *same, "clock_source", "gilscope"),
        "events": [trace.totals.events],
        "policy": [metadata.policy.name],
        "switch_interval_ns": [metadata.policy.switch_interval_ns],
    }


def _processes(trace: Trace, summary: Row) -> Mapping[str, Values]:
    table, rows = trace.metadata.processes, summary["processes"]
    return {
        **_attributes(table, "id", "pid", "parent", "python", "interpreter", "feed"),
        **_attributes(table, "start_ns", "end_ns"),
        "command": [" ".join(process.command) for process in table],
        **_of(rows, "life_ns", "lost_events", "unclean_end"),
    }


def _gils(summary: Row) -> Mapping[str, Values]:
    rows = [(p["id"], gil) for p in summary["processes"] for gil in p["gils"]]
    names = (column.name for column in TABLES["gils"] if column.name != "process")
    return {"process": [process for process, _ in rows], **_of([gil for _, gil in rows], *names)}


def _threads(trace: Trace, summary: Row) -> Mapping[str, Values]:
    of_trace = ("process", "is_main", "start_ns", "end_ns", "lost_events")
    rows = [thread for process in summary["processes"] for thread in process["threads"]]
    table = [trace.metadata.threads[row["id"]] for row in rows]
    names = (column.name for column in TABLES["threads"] if column.name not in of_trace)
    return {**_attributes(table, *of_trace), **_of(rows, *names)}


def _site(sites: Sites, numbers: NDArray[np.uint32] | None, rows: int) -> dict[str, Values]:
    if numbers is None:
        numbers = np.zeros(rows, np.uint32)
    unknown = numbers == 0
    places = [None if site is None else site.place for site in sites.table]
    lines = np.array([place.line if place else 0 for place in places], np.int32)[numbers]
    return {
        "file": _Words([place and place.file for place in places], numbers, unknown),
        "line": np.ma.masked_array(lines, unknown | (lines == 0)),
        "function": _Words([place and place.function for place in places], numbers, unknown),
    }


def _stack(trace: Trace, rows: NDArray[np.void], *, of_wait: bool) -> tuple[Values, Values]:
    """stacks.id of each interval, and whether it was seen there."""
    mine = trace.stacks[(trace.stacks["of_wait"] != 0) == of_wait]
    unknown = np.ones(len(rows), bool)
    unknown[mine["interval"]] = False
    leaf, seen = np.zeros(len(rows), np.uint32), np.zeros(len(rows), bool)
    leaf[mine["interval"]], seen[mine["interval"]] = mine["leaf"], mine["seen"] != 0
    return np.ma.masked_array(leaf, unknown), np.ma.masked_array(seen, unknown)


def _holds(trace: Trace, sites: Sites) -> Mapping[str, Values]:
    rows = trace.holds
    stack, exact = _stack(trace, rows, of_wait=False)
    return {
        **_fields(rows, "thread", "gil", "start_ns", "end_ns"),
        "held_ns": _length(rows),
        "caused_ns": caused_ns(trace),
        "waited": rows["flags"] & story.HOLD_WAITED != 0,
        "requested": rows["flags"] & story.HOLD_REQUESTED != 0,
        "ending": _Words(ENDINGS, rows["ending"]),
        "stack": stack,
        "exact": exact,
        **_site(sites, sites.of_hold, len(rows)),
    }


def _waits(trace: Trace, sites: Sites) -> Mapping[str, Values]:
    rows = trace.waits
    return {
        **_fields(rows, "thread", "gil", "start_ns", "end_ns"),
        "wait_ns": _length(rows),
        "kind": _Words(("io", "cpu"), rows["cpu"]),
        "ending": _Words(ENDINGS, rows["ending"]),
        "woken_ns": _known(rows["woken_ns"], story.NEVER),
        "stack": _stack(trace, rows, of_wait=True)[0],
        **_site(sites, sites.of_wait, len(rows)),
    }


def _locks(trace: Trace) -> Mapping[str, Values]:
    rows = trace.sync_waits
    kinds = [kind.label for kind in SyncKind]
    return {
        **_fields(rows, "thread", "start_ns", "end_ns"),
        "what": _Words(("lock", "condition"), rows["object"] >= np.uint64(story.OF_CONDITION)),
        "kind": _Words(kinds, rows["object"] & np.uint64(SYNC_KIND_MASK)),
        "object": rows["object"] & np.uint64(SYNC_OBJECT_MASK),
        "wait_ns": _length(rows),
        "ending": _Words(ENDINGS, rows["ending"]),
        "waker": _known(rows["waker"], story.NOBODY),
        "woken_ns": _known(rows["woken_ns"], story.NEVER),
        "running_ns": _known(rows["running_ns"], story.NEVER),
    }


def _blame(summary: Row) -> Mapping[str, Values]:
    rows = [row for process in summary["processes"] for row in process["blame"]]
    columns = _of(rows, "waiter", "holder", "reason", "wait_ns", "waits", "others")
    for side in ("waiter", "holder"):
        places = [row[f"{side}_site"] for row in rows]
        for field in ("file", "line", "function"):
            columns[f"{side}_{field}"] = [place and place[field] for place in places]
    columns["holder_exact"] = [place and place["exact"] for place in places]
    return columns


def _sections(trace: Trace) -> Mapping[str, Values]:
    rows = trace.sections
    columns = _fields(rows, "thread", "start_ns", "end_ns", "held_ns")
    return {**columns, "deferred_yields": rows["deferred"]}


def _gaps(trace: Trace) -> Mapping[str, Values]:
    rows = trace.gaps
    return {**_fields(rows, "gil", "start_ns", "end_ns", "missing"), "lost": rows["lost"] != 0}


def _stacks(trace: Trace) -> Mapping[str, Values]:
    rows = trace.metadata.stacks
    columns = _attributes(rows, "id", "parent", "file", "function", "library")
    return {**columns, "line": [row.line or None for row in rows]}
