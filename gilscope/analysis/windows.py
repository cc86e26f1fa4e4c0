"""One run in windows of equal length: how its own figures spread while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gilscope.analysis.groups import group_of
from gilscope.analysis.intervals import lasted_until

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.trace.model import Trace

WINDOWS = 10

Windows = dict[str, dict[str, list[float]]]


def windows_of(trace: Trace, n: int = WINDOWS) -> Windows:
    """By group of threads "waiting" and "held": of each of `n` windows the seconds in a second,
    added up over the group's threads."""
    start, end = trace.metadata.start_ns, max(trace.metadata.end_ns, trace.metadata.start_ns + n)
    edges = np.linspace(start, end, n + 1).astype(np.int64)
    lengths = np.diff(edges)
    table = trace.metadata.threads
    shares: dict[str, dict[str, NDArray[np.float64]]] = {}
    for measure, rows in (("waiting", trace.waits), ("held", trace.holds)):
        order = np.argsort(rows["thread"], kind="stable")
        bounds = np.searchsorted(rows["thread"][order], np.arange(len(table) + 1))
        for thread, first, last in zip(table, bounds[:-1], bounds[1:], strict=True):
            group = shares.setdefault(
                group_of(thread.name), {key: np.zeros(n) for key in ("waiting", "held")}
            )
            if first < last:
                group[measure] += np.diff(lasted_until(rows[order[first:last]], edges)) / lengths
    return {
        group: {measure: values.tolist() for measure, values in measures.items()}
        for group, measures in shares.items()
    }
