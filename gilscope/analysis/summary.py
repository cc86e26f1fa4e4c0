"""The summary of a trace: the dictionary that `gilscope summary --json` prints.

Times are integer nanoseconds; None stands for what the feed cannot know. docs/analysis.md defines
every field.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.analysis import classification as rules
from gilscope.analysis.collections import collections_of
from gilscope.analysis.findings import findings
from gilscope.analysis.groups import groups_of
from gilscope.analysis.intervals import REASONS, Folded, distribution_row, fold, holder_of
from gilscope.analysis.lines import lines_of
from gilscope.analysis.longest import longest_waits
from gilscope.analysis.processors import Processors
from gilscope.analysis.sync import Sync
from gilscope.analysis.unknown import unknown_ns
from gilscope.trace.schema import NO_GIL, Metadata, Process, Thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.analysis.sites import Sites
    from gilscope.trace.model import Trace

SCHEMA = 1

Summary = dict[str, Any]
Row = dict[str, Any]


def summarise(trace: Trace) -> Summary:
    """The summary of `trace`, ready for `json.dumps`."""
    metadata = trace.metadata
    folded = fold(trace, long_ns=rules.LONG_STRETCH_NS, prompt_ns=rules.PROMPT_NS)
    sync = Sync(trace, folded.sites)
    threads = _by_process(metadata.threads, _threads(trace, folded, sync))
    gils = _by_process(metadata.gils, _gils(trace))
    blame = _blame(trace, folded)
    held = _held_at(trace, folded.sites)
    collected = collections_of(trace)
    lives = np.diff(_lives(metadata.processes, trace.process_stats))[:, 0].tolist()
    processes = []
    for process, life_ns, stats in zip(
        metadata.processes, lives, _rows(trace.process_stats), strict=True
    ):
        for gil in gils[process.id]:
            if not threads[process.id]:  # it came when nothing was recorded any more
                gil["unknown_ns"] = life_ns
            gil["idle_ns"] = life_ns - gil["held_ns"] - gil["unknown_ns"]
        processes.append(
            {
                "id": process.id,
                "pid": process.pid,
                "command": list(process.command),
                "python": process.python,
                "feed": process.feed,
                "interpreter": process.interpreter,
                "attached_at_ns": process.start_ns + metadata.realtime_offset_ns
                if process.attached
                else None,
                "life_ns": life_ns,
                "lost_events": process.lost_events,
                "unclean_end": bool(stats["unclean"]),
                "inferred": _inferred(process),
                "stacks": process.stacks,
                "lost_stacks": process.lost_stacks,
                "gils": gils[process.id],
                "threads": threads[process.id],
                "blame": blame[process.id],
                "lines": lines_of(blame[process.id], held[process.id]),
                "conditions": sync.conditions(process),
                "locks": sync.locks(process),
                "atomic": sync.atomic(process),
                "gc": collected[process.id],
            }
        )
    summary: Summary = {
        "schema": SCHEMA,
        "command": list(metadata.command),
        "duration_ns": metadata.end_ns - metadata.start_ns,
        "events": trace.totals.events,
        "lost_events": metadata.lost_events,
        "cut_at_start": metadata.kept_from_ns is not None,
        "stopped": metadata.stopped,
        "stopped_after_ns": _after(metadata),
        "exit_code": metadata.exit_code,
        "clock": {"source": metadata.clock_source, "clamped": trace.totals.clamped},
        "policy": {
            "name": metadata.policy.name,
            "grace_ns": metadata.policy.grace_ns,
            "switch_interval_ns": metadata.policy.switch_interval_ns,
        },
        "kernel": {
            "switches": metadata.switches,
            "lost_switches": metadata.lost_switches if metadata.switches else None,
            "throttled": metadata.throttled,
            "throttled_ns": metadata.throttled_ns,
        },
        "processes": processes,
        "groups": groups_of(trace, processes),
        "longest_waits": longest_waits(trace, folded.sites),
    }
    summary["findings"] = findings(trace, folded.sites, summary)
    return summary


def _after(metadata: Metadata) -> int | None:
    return None if metadata.stopped_ns is None else metadata.stopped_ns - metadata.start_ns


def _lives(table: Sequence[Process | Thread], stats: NDArray[np.void]) -> NDArray[np.int64]:
    """Begin and end of each life, from the table, widened to hold its events (stamps may be
    clamped)."""
    lives = [
        (min(row.start_ns, first), max(row.end_ns, last))
        for row, first, last in zip(
            table, stats["first_ns"].tolist(), stats["last_ns"].tolist(), strict=True
        )
    ]
    return np.array(lives, np.int64).reshape(-1, 2)


def _threads(trace: Trace, folded: Folded, sync: Sync) -> list[Row]:
    table = trace.metadata.threads
    lives = _lives(table, trace.thread_stats)
    unknown = unknown_ns(trace, lives)
    gils = _main_gils(trace)
    shared = _shared_ns(gils, folded.shared_ns, lives)
    distributions = {
        name: _distributions(getattr(folded, name))
        for name in ("wait_ns", "io_wait_ns", "cpu_wait_ns", "hold_ns", "wakeup_ns")
    }
    processors = Processors(trace)
    rows = []
    for thread, gil, life_ns, unknown_of_it, shared_of_it, stats, stretches, for_sync in zip(
        table,
        gils.tolist(),
        (lives[:, 1] - lives[:, 0]).tolist(),
        unknown.tolist(),
        shared.tolist(),
        _rows(trace.thread_stats),
        _rows(folded.stretches),
        sync.thread_waits(),
        strict=True,
    ):
        known_ns = life_ns - unknown_of_it
        begin, end = lives[thread.id].tolist()
        kernel = processors.of_thread(thread.id, (begin, end), unknown_of_it)
        for_sync["outside"] |= kernel.pop("outside")
        rows.append(
            {
                "id": thread.id,
                "tid": thread.tid,
                "name": thread.name,
                "gil": None if gil == NO_GIL else gil,
                "class": rules.classify(*_usages(known_ns, shared_of_it, stats, stretches)),
                "life_ns": life_ns,
                "shared_ns": min(shared_of_it, known_ns),
                "held_ns": stats["held_ns"],
                "waiting_ns": stats["waiting_ns"],
                "outside_ns": known_ns - stats["held_ns"] - stats["waiting_ns"],
                "unknown_ns": unknown_of_it,
                "waiting_share": stats["waiting_ns"] / known_ns if known_ns else None,
                "acquires": stats["acquires"],
                "contended_acquires": stats["contended_acquires"],
                "voluntary_releases": stats["releases"],
                "forced_yields": stats["yields"],
                "short_sleeps": thread.short_sleeps,
                "requests_made": stats["requests"],
                **{name: rows_of[thread.id] for name, rows_of in distributions.items()},
                **for_sync,
                **kernel,
            }
        )
    return rows


def _main_gils(trace: Trace) -> NDArray[np.uint32]:
    """The GIL that each thread held longest, which is its first one where it used no other."""
    gils: NDArray[np.uint32] = trace.thread_stats["gil"].copy()
    threads, used = trace.holds["thread"], trace.holds["gil"]
    others = np.flatnonzero(used != gils[threads])
    if not len(others):
        return gils
    movers = np.zeros(len(gils), np.bool_)
    movers[threads[others]] = True
    cells = (np.cumsum(movers) - 1)[threads[others]] * len(trace.gil_stats) + used[others]
    lengths = trace.holds["end_ns"][others] - trace.holds["start_ns"][others]
    held = np.bincount(cells, lengths, int(movers.sum()) * len(trace.gil_stats))
    held = held.reshape(-1, len(trace.gil_stats))
    at_home = trace.thread_stats["held_ns"][movers] - held.sum(axis=1)
    longest = held.argmax(axis=1)
    left = held.max(axis=1) > at_home
    gils[np.flatnonzero(movers)[left]] = longest[left]
    return gils


def _shared_ns(
    gils: NDArray[np.uint32], shared: NDArray[np.int64], lives: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For how long of its life each thread's GIL was used by another thread, too."""
    table = np.concatenate([shared, [[0, 0]]])  # the last one: no GIL
    window = table[np.minimum(gils, len(shared))]
    until, since = np.minimum(lives[:, 1], window[:, 1]), np.maximum(lives[:, 0], window[:, 0])
    together: NDArray[np.int64] = np.maximum(until - since, 0)
    return together


def _usages(
    life_ns: int, shared_ns: int, stats: Row, stretches: Row
) -> tuple[rules.Usage, rules.Usage]:
    """How it used the GIL while others did, and in all its life."""
    alone, shared = 0, 1

    def usage(life_ns: int, *phases: int) -> rules.Usage:
        return rules.Usage(
            life_ns=life_ns,
            held_ns=sum(stretches["held_ns"][phase] for phase in phases),
            waiting_ns=stats["waiting_ns"],
            asks=sum(stretches["holds"][phase] for phase in phases),
            long_ns=sum(stretches["long_ns"][phase] for phase in phases),
            stretches=sum(stretches["count"][phase] for phase in phases),
            voluntary=stats["releases"],
            forced=stats["yields"],
        )

    whole = usage(life_ns, alone, shared)
    return (usage(shared_ns, shared) if shared_ns and stretches["holds"][shared] else whole), whole


def _gils(trace: Trace) -> list[Row]:
    return [
        {
            "id": gil.id,
            "held_ns": stats["held_ns"],
            "idle_ns": 0,
            "unknown_ns": stats["unknown_ns"],
            "contended_ns": stats["contended_ns"],
            "switches": stats["switches"],
            "forced_yields": stats["yields"],
            "max_waiters": stats["max_waiters"],
        }
        for gil, stats in zip(trace.metadata.gils, _rows(trace.gil_stats), strict=True)
    ]


_PLACES = ("waiter_site", "holder_site", "others")


def _blame(trace: Trace, folded: Folded) -> dict[int, list[Row]]:
    """Rows by process, the longest first."""
    by_process = defaultdict(list)
    threads = trace.metadata.threads
    sites = [folded.sites.json(index) for index in range(len(folded.sites.table))]
    table = folded.blame[np.argsort(-folded.blame["wait_ns"], kind="stable")]
    fields = ("waiter", "holder", "reason", "wait_ns", "waits", *_PLACES)
    # Columns, not dictionaries: of 500 threads that all wait there are 33,000 rows.
    for waiter, holder, reason, wait_ns, waits, waiter_site, holder_site, others in zip(
        *(table[field].tolist() for field in fields), strict=True
    ):
        by_process[threads[waiter].process].append(
            {
                "waiter": waiter,
                "holder": holder_of(holder),
                "reason": REASONS[reason],
                "wait_ns": wait_ns,
                "waits": waits,
                "waiter_site": sites[waiter_site],
                "holder_site": sites[holder_site],
                "others": others,
            }
        )
    return by_process


def _held_at(trace: Trace, sites: Sites) -> dict[int, list[tuple[Row | None, int]]]:
    """By process: each site of its holds, and how long they were in all."""
    by_process: dict[int, list[tuple[Row | None, int]]] = defaultdict(list)
    if sites.of_hold is None:
        return by_process
    known = np.flatnonzero(sites.of_hold)
    holds, places = trace.holds[known], sites.of_hold[known].astype(np.int64)
    owner = np.array([thread.process for thread in trace.metadata.threads], np.int64)
    keys, inverse = np.unique(
        owner[holds["thread"]] * len(sites.table) + places, return_inverse=True
    )
    spent = np.bincount(inverse, holds["end_ns"] - holds["start_ns"], len(keys))
    for key, held_ns in zip(keys.tolist(), spent.tolist(), strict=True):
        process, place = divmod(key, len(sites.table))
        by_process[process].append((sites.json(place), round(held_ns)))
    return by_process


def _distributions(table: NDArray[np.void]) -> list[Row]:
    """Those of nothing are one row: of ten thousand threads few waited in every way."""
    nothing = distribution_row(next(_rows(np.zeros(1, table.dtype))))
    counts = table["count"].tolist()
    rows = _rows(table[table["count"] != 0])
    return [distribution_row(next(rows)) if count else nothing for count in counts]


def _inferred(process: Process) -> list[str]:
    """Fields that the feed concludes from what it sees, without being told."""
    return ["voluntary_releases", "forced_yields"] if process.yields_inferred else []


def _by_process(table: tuple[Any, ...], rows: list[Row]) -> dict[int, list[Row]]:
    by_process = defaultdict(list)
    for entry, row in zip(table, rows, strict=True):
        by_process[entry.process].append(row)
    return by_process


def _rows(table: NDArray[np.void]) -> Iterator[Row]:
    """A structured array as dictionaries of plain numbers, one at a time."""
    names = table.dtype.names or ()
    columns = [table[name].tolist() for name in names]
    return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
