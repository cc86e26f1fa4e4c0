"""Bounds that good runs keep with a margin, for `gilscope check --update`."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from statistics import stdev
from typing import Any

from gilscope.analysis.bounds import Bound, value_of
from gilscope.analysis.groups import group_of
from gilscope.errors import UsageError

# Above the worst good run: what a run of five may exceed by chance on a busy machine.
MARGIN = 0.25
DEVIATIONS = 3  # of those runs, if that is more
LEAST_SHARE = 0.02  # a share of less is noise of a thread that hardly waits
LEAST_NS = 1_000_000

Row = dict[str, Any]


def usual(summaries: Sequence[Row]) -> list[str]:
    """The share of waiting of each group of threads that every run has."""
    groups = [{group_of(thread["name"]) for thread in _threads(s)} for s in summaries]
    return [f"waiting_share@{group}" for group in sorted(set.intersection(*groups))]


def bounds(summaries: Sequence[Row], names: Sequence[str]) -> list[Bound]:
    """One for each METRIC[@THREAD]. Raises UsageError where a run does not know its value."""
    made = []
    for name in names:
        metric, _, pattern = name.partition("@")
        worst = [_worst(summary, metric, pattern) for summary in summaries]
        spread = stdev(worst) if len(worst) > 1 else 0.0
        most = max(worst)
        most += max(MARGIN * most, DEVIATIONS * spread, _least(metric))
        made.append(Bound(metric, pattern, float(f"{most:.2g}")))
    return made


def _least(metric: str) -> float:
    if metric.endswith("_share"):
        return LEAST_SHARE
    return LEAST_NS if "_ns" in metric and not metric.endswith(".count") else 1


def _worst(summary: Row, metric: str, pattern: str) -> float:
    name = f"{metric}@{pattern}" if pattern else metric
    mine = [t for t in _threads(summary) if fnmatchcase(t["name"], pattern or "*")]
    values = [value_of(thread, metric) for thread in mine]
    known = [value for value in values if value is not None]
    if not mine or len(known) < len(values):
        what = "has no such thread" if not mine else "does not know it"
        raise UsageError(f"{name}: one of these traces {what}; no bound was written")
    return max(known)


def _threads(summary: Row) -> list[Row]:
    return [thread for process in summary["processes"] for thread in process["threads"]]
