"""The tables of `gilscope export --format parquet`: the schema, as docs/export.md has it.

Columns are added, never renamed or given another meaning. A name that ends in `_ns` is nanoseconds:
of a time (`start_ns`, `end_ns`, `woken_ns`, `running_ns`) on the clock CLOCK_MONOTONIC, else of a
length. What is not known is null.
"""

from __future__ import annotations

from typing import NamedTuple

SCHEMA = 1  # `gilscope.schema` in each file's metadata


class Column(NamedTuple):
    """A column: Arrow's name of its type, and what it means. `text` is a dictionary of strings."""

    name: str
    type: str
    meaning: str


def _site(prefix: str, what: str) -> tuple[Column, ...]:
    return (
        Column(f"{prefix}file", "text", f"where {what}: the innermost frame outside the library"),
        Column(f"{prefix}line", "int32", "its line"),
        Column(f"{prefix}function", "text", "its function"),
    )


_INTERVAL = (
    Column("thread", "uint32", "threads.id"),
    Column("gil", "uint32", "gils.id"),
    Column("start_ns", "int64", "its begin"),
    Column("end_ns", "int64", "its end"),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "recording": (
        Column("command", "string", "the command and its arguments"),
        Column("start_ns", "int64", "begin of the recording"),
        Column("end_ns", "int64", "its end"),
        Column("realtime_offset_ns", "int64", "add it to a time for ns since 1970"),
        Column("events", "int64", "events recorded"),
        Column("lost_events", "int64", "events lost"),
        Column("stopped", "string", "why recording stopped before the program did"),
        Column("exit_code", "int32", "of the command"),
        Column("policy", "string", "how the GIL was scheduled"),
        Column("switch_interval_ns", "int64", "of the first Python"),
        Column("clock_source", "string", "tsc, cntvct or monotonic"),
        Column("gilscope", "string", "the version that recorded"),
    ),
    "processes": (
        Column("id", "uint32", "its number in the trace"),
        Column("pid", "uint32", "may repeat"),
        Column("parent", "uint32", "processes.id of the one that forked it"),
        Column("command", "string", "the command and its arguments"),
        Column("python", "string", "its version"),
        Column("interpreter", "string", "gil, free-threaded or none"),
        Column("feed", "string", "interposed or built-in"),
        Column("start_ns", "int64", "its begin, as far as it was recorded"),
        Column("end_ns", "int64", "its end"),
        Column("life_ns", "int64", "as the summary has it: widened to hold all of its events"),
        Column("lost_events", "int64", "events lost"),
        Column("unclean_end", "bool", "it ended without saying so"),
    ),
    "gils": (
        Column("id", "uint32", "its number in the trace"),
        Column("process", "uint32", "processes.id"),
        Column("held_ns", "int64", "some thread held it"),
        Column("contended_ns", "int64", "the part of held_ns in which another waited"),
        Column("idle_ns", "int64", "nobody held it"),
        Column("unknown_ns", "int64", "records are missing"),
        Column("switches", "int64", "holds by another thread than the one before"),
        Column("forced_yields", "int64", "holds that were ended by a request"),
        Column("max_waiters", "int64", "the most that waited at once"),
    ),
    "threads": (
        Column("id", "uint32", "its number in the trace"),
        Column("process", "uint32", "processes.id"),
        Column("tid", "uint32", "may repeat"),
        Column("name", "text", "its name"),
        Column("is_main", "bool", "the main thread of its process"),
        Column("gil", "uint32", "gils.id of the first that it used"),
        Column("class", "text", "io, cpu, mixed or idle"),
        Column("start_ns", "int64", "its begin, as far as it was recorded"),
        Column("end_ns", "int64", "its end"),
        Column("life_ns", "int64", "held + waiting + outside + unknown"),
        Column("held_ns", "int64", "it held a GIL"),
        Column("waiting_ns", "int64", "it waited for a GIL"),
        Column("outside_ns", "int64", "it did neither"),
        Column("unknown_ns", "int64", "records are missing"),
        Column("acquires", "int64", "times that it took a GIL"),
        Column("contended_acquires", "int64", "of these, those that had to wait"),
        Column("voluntary_releases", "int64", "times that it gave the GIL up by itself"),
        Column("forced_yields", "int64", "times that it was made to"),
        Column("requests_made", "int64", "times that it asked the holder to yield"),
        Column("lost_events", "int64", "events lost"),
    ),
    "holds": (
        *_INTERVAL,
        Column("held_ns", "int64", "its length"),
        Column("caused_ns", "int64", "how long others waited meanwhile, all together"),
        Column("waited", "bool", "its thread had to wait for it"),
        Column("requested", "bool", "somebody asked its thread to yield"),
        Column("ending", "text", "released, yielded, end, lost or open"),
        Column("stack", "uint32", "stacks.id of where it was seen or ended"),
        Column("exact", "bool", "seen there; else its time went there or before"),
        *_site("", "it was seen or ended"),
    ),
    "waits": (
        *_INTERVAL,
        Column("wait_ns", "int64", "its length"),
        Column("kind", "text", "io: behind a voluntary release; cpu: behind a forced yield"),
        Column("ending", "text", "acquired, end, lost or open"),
        Column("woken_ns", "int64", "when it was woken, where the feed tells"),
        Column("stack", "uint32", "stacks.id of where its thread came back"),
        *_site("", "its thread came back"),
    ),
    "locks": (
        Column("thread", "uint32", "threads.id of who waited"),
        Column("what", "text", "lock or condition"),
        Column("kind", "text", "who made it: python, native, thread-lock, …"),
        Column("object", "uint64", "its address; another may come to lie there"),
        Column("start_ns", "int64", "begin of the wait"),
        Column("end_ns", "int64", "its end"),
        Column("wait_ns", "int64", "its length"),
        Column("ending", "text", "acquired (or notified), timed-out, end, lost or open"),
        Column("waker", "uint32", "threads.id of who ended it"),
        Column("woken_ns", "int64", "when that thread released or notified"),
        Column("running_ns", "int64", "when its thread next had a GIL"),
    ),
    "blame": (
        Column("waiter", "uint32", "threads.id"),
        Column("holder", "uint32", "threads.id; null: the GIL was free, or not known"),
        Column("reason", "text", "held, wakeup or idle"),
        Column("wait_ns", "int64", "how long, all together"),
        Column("waits", "int64", "how many waits have a part in it"),
        Column("others", "int64", "0, or of how many smaller rows this is the sum"),
        *_site("waiter_", "the waiter came back"),
        *_site("holder_", "the holder was seen or let go"),
        Column("holder_exact", "bool", "seen there; else its time went there or before"),
    ),
    "sections": (
        Column("thread", "uint32", "threads.id of who was in an atomic section"),
        Column("start_ns", "int64", "its begin"),
        Column("end_ns", "int64", "its end"),
        Column("held_ns", "int64", "it held the GIL meanwhile"),
        Column("deferred_yields", "int64", "requests that it held back"),
    ),
    "gaps": (
        Column("gil", "uint32", "gils.id of whose state is not known"),
        Column("start_ns", "int64", "its begin"),
        Column("end_ns", "int64", "its end"),
        Column("lost", "bool", "records were lost; else it is the GIL's beginning"),
        Column("missing", "int64", "how many; 0: not known"),
    ),
    "stacks": (
        Column("id", "uint32", "its number in the trace"),
        Column("parent", "uint32", "stacks.id of its caller"),
        Column("file", "text", "as the code object has it"),
        Column("function", "text", "from Python 3.11 on the qualified name"),
        Column("line", "int32", "line"),
        Column("library", "bool", "part of Python's standard library"),
    ),
}


def markdown() -> str:
    """The tables as docs/export.md shows them."""
    parts = []
    for name, columns in TABLES.items():
        parts += [f"\n### {name}.parquet\n", "| column | type | what |", "|---|---|---|"]
        parts += [f"| {c.name} | {c.type} | {c.meaning} |" for c in columns]
    return "\n".join(parts) + "\n"
