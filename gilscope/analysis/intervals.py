"""Folds the intervals of a `Trace` in C: distributions, blame, stretches. One row a thread.

Nothing here holds more than the trace itself and 8 bytes an interval; see docs/analysis.md for the
definitions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gilscope import _native
from gilscope.analysis.sites import Sites, sites_of
from gilscope.trace.story import NOBODY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.trace.model import Trace

DISTRIBUTION_DTYPE = np.dtype(
    [
        ("count", "<u8"),
        ("sum", "<i8"),
        ("p50", "<i8"),  # nearest rank: values that occurred
        ("p90", "<i8"),
        ("p99", "<i8"),
        ("max", "<i8"),
    ]
)
BLAME_DTYPE = np.dtype(
    [
        ("waiter", "<u4"),
        ("holder", "<u4"),  # NOBODY: the GIL was free, or nobody saw who held it
        ("wait_ns", "<i8"),
        ("waits", "<u8"),  # how many waits have a part in it
        ("reason", "<u4"),  # index into REASONS
        ("waiter_site", "<u4"),  # index into Sites.table
        ("holder_site", "<u4"),
        ("others", "<u4"),  # 0: one row; else a sum of so many
    ]
)
REASONS = ("held", "wakeup", "idle")
STRETCHES_DTYPE = np.dtype(
    [  # each a pair: while nobody else used its GIL, and while others did
        ("held_ns", "<i8", 2),
        ("long_ns", "<i8", 2),
        ("holds", "<u8", 2),
        ("count", "<u8", 2),
    ]
)


@dataclass(frozen=True)
class Folded:
    """What the intervals of each thread add up to; `blame` is sorted by waiter, then by time."""

    hold_ns: NDArray[np.void]
    wait_ns: NDArray[np.void]
    io_wait_ns: NDArray[np.void]
    cpu_wait_ns: NDArray[np.void]
    wakeup_ns: NDArray[np.void]
    blame: NDArray[np.void]
    sites: Sites
    stretches: NDArray[np.void]
    shared_ns: NDArray[np.int64]  # one row a GIL: from and until when two threads used it


def distribution_of(values: NDArray[np.int64]) -> NDArray[np.void]:
    """The DISTRIBUTION_DTYPE row of `values`, which are reordered."""
    out = np.zeros(1, DISTRIBUTION_DTYPE)
    _library().gs_distribution_of(values.ctypes.data, len(values), out.ctypes.data)
    row: NDArray[np.void] = out[0]
    return row


def distribution(values: NDArray[np.int64]) -> dict[str, int | None]:
    """The summary's D of `values`, which stay as they are."""
    row = distribution_of(np.array(values, np.int64, copy=True))
    return distribution_row({name: row[name].item() for name in DISTRIBUTION_DTYPE.names or ()})


def distribution_row(row: dict[str, int]) -> dict[str, int | None]:
    """The summary's D of a DISTRIBUTION_DTYPE row as a dictionary: no value, no statement."""
    count = row["count"]
    if not count:
        return {"count": 0, **dict.fromkeys(("sum", "mean", "p50", "p90", "p99", "max"))}
    of_values = {key: row[key] for key in ("p50", "p90", "p99", "max")}
    return {"count": count, "sum": row["sum"], "mean": row["sum"] // count, **of_values}


def lasted_until(rows: NDArray[np.void], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """How long intervals, which ascend and do not overlap, had lasted up to each of `times`."""
    lengths = rows["end_ns"] - rows["start_ns"]
    before = np.concatenate(([0], np.cumsum(lengths)))
    begun = np.searchsorted(rows["start_ns"], times, side="right")
    last = np.maximum(begun - 1, 0)
    rest = np.maximum(rows["end_ns"][last] - times, 0)
    until: NDArray[np.int64] = np.where(begun > 0, before[begun] - rest, 0)
    return until


def fold(trace: Trace, *, long_ns: int, prompt_ns: int) -> Folded:
    """Fold all intervals of `trace`. For the thresholds see `gilscope.analysis.classification`."""
    library = _library()
    n_threads = len(trace.thread_stats)
    holds, waits, threads = trace.holds, trace.waits, trace.thread_stats
    hold_ns, wait_ns, io_wait_ns, cpu_wait_ns, wakeup_ns = (
        np.zeros(n_threads, DISTRIBUTION_DTYPE) for _ in range(5)
    )

    def distribute_holds() -> None:
        _check(
            library.gs_hold_distributions(
                holds.ctypes.data, len(holds), threads.ctypes.data, n_threads, hold_ns.ctypes.data
            )
        )

    def distribute_waits() -> None:
        _check(
            library.gs_wait_distributions(
                waits.ctypes.data,
                len(waits),
                threads.ctypes.data,
                n_threads,
                wait_ns.ctypes.data,
                io_wait_ns.ctypes.data,
                cpu_wait_ns.ctypes.data,
            )
        )

    first = np.empty(n_threads + 1, np.uint32)
    order = np.empty(len(waits), np.uint32)
    stretches = np.zeros(n_threads, STRETCHES_DTYPE)
    shared_ns = np.zeros((len(trace.gil_stats), 2), np.int64)

    def stretch() -> None:
        _check(
            library.gs_stretches_of(
                holds.ctypes.data,
                len(holds),
                waits.ctypes.data,
                first.ctypes.data,
                order.ctypes.data,
                n_threads,
                len(trace.gil_stats),
                long_ns,
                prompt_ns,
                stretches.ctypes.data,
                shared_ns.ctypes.data,
            )
        )

    # Side by side: each is one call into C, which gives the GIL up, and they share nothing.
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(distribute_holds), pool.submit(distribute_waits)]
        library.gs_group_waits(
            waits.ctypes.data,
            len(waits),
            threads.ctypes.data,
            n_threads,
            first.ctypes.data,
            order.ctypes.data,
        )
        sites = sites_of(trace)
        blame_of = _blame(trace, first, order, sites, wakeup_ns)
        middle = int(np.searchsorted(first, len(waits) // 2))
        second_half = pool.submit(blame_of, middle, n_threads)
        futures.append(pool.submit(stretch))
        blame = np.concatenate([blame_of(0, middle), second_half.result()])
        for future in futures:
            future.result()
    return Folded(
        hold_ns, wait_ns, io_wait_ns, cpu_wait_ns, wakeup_ns, blame, sites, stretches, shared_ns
    )


def _blame(
    trace: Trace,
    first: NDArray[np.uint32],
    order: NDArray[np.uint32],
    sites: Sites,
    wakeup_ns: NDArray[np.void],
) -> Callable[[int, int], NDArray[np.void]]:
    """What gives the rows of the waiters from one to before another."""
    library = _library()
    gils = trace.gil_stats
    hold_first = np.zeros(len(gils) + 1, np.uint32)
    np.cumsum(gils["holds"], out=hold_first[1:], dtype=np.uint32)
    hold_order = None
    if np.count_nonzero(gils["holds"]) > 1:  # else they stand in the order of their GIL already
        hold_order = np.empty(len(trace.holds), np.uint32)
        library.gs_group_holds(
            trace.holds.ctypes.data,
            len(trace.holds),
            gils.ctypes.data,
            len(gils),
            hold_first.ctypes.data,
            hold_order.ctypes.data,
        )

    def rows_of(begin: int, end: int) -> NDArray[np.void]:
        rows = ctypes.c_void_p()
        n = library.gs_blame_rows(
            trace.holds.ctypes.data,
            hold_first.ctypes.data,
            None if hold_order is None else hold_order.ctypes.data,
            None if sites.of_hold is None else sites.of_hold.ctypes.data,
            trace.waits.ctypes.data,
            first.ctypes.data,
            order.ctypes.data,
            None if sites.of_wait is None else sites.of_wait.ctypes.data,
            trace.gaps.ctypes.data,
            len(trace.gaps),
            begin,
            end,
            wakeup_ns.ctypes.data,
            ctypes.byref(rows),
        )
        _check(min(n, 0))
        if not n:
            return np.zeros(0, BLAME_DTYPE)
        memory = (ctypes.c_char * (n * BLAME_DTYPE.itemsize)).from_address(rows.value or 0)
        blame: NDArray[np.void] = np.frombuffer(memory, BLAME_DTYPE).copy()
        library.gs_blame_free(rows)
        return blame

    return rows_of


def holder_of(row_holder: int) -> int | None:
    """The thread's id, or None."""
    return None if row_holder == NOBODY else row_holder


def _check(result: int) -> None:
    if result:
        raise MemoryError("no memory to fold the intervals of the trace")


def _library() -> ctypes.CDLL:
    library = _native.engine()
    pointer, u32, u64, i64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int64
    library.gs_distribution_of.argtypes = (pointer, u64, pointer)
    library.gs_distribution_of.restype = None
    library.gs_hold_distributions.argtypes = (pointer, u64, pointer, u32, pointer)
    library.gs_wait_distributions.argtypes = (pointer, u64, pointer, u32, *[pointer] * 3)
    library.gs_group_waits.argtypes = (pointer, u32, pointer, u32, pointer, pointer)
    library.gs_group_waits.restype = None
    library.gs_group_holds.argtypes = library.gs_group_waits.argtypes
    library.gs_group_holds.restype = None
    library.gs_stretches_of.argtypes = (
        *(pointer, u64, pointer, pointer, pointer),
        *(u32, u32, i64, i64, pointer, pointer),
    )
    library.gs_blame_rows.argtypes = (
        *([pointer] * 9),
        *(u64, u32, u32, pointer, ctypes.POINTER(pointer)),
    )
    library.gs_blame_rows.restype = i64
    library.gs_blame_free.argtypes = (pointer,)
    library.gs_blame_free.restype = None
    return library
