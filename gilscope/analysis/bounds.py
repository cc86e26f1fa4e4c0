"""Bounds on a thread's figures: `METRIC[@THREAD]=VALUE`, held against summaries.

METRIC is a field of a thread's JSON, THREAD a shell pattern of names (none: each thread). What is
unknown breaks its bound: a thread part of whose life nobody saw may have done anything there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from gilscope.analysis.units import duration, percent
from gilscope.errors import UsageError

Row = dict[str, Any]

DISTRIBUTIONS = ("wait_ns", "io_wait_ns", "cpu_wait_ns", "hold_ns", "wakeup_ns", "lock_wait_ns")
OF_DISTRIBUTION = ("count", "sum", "mean", "p50", "p90", "p99", "max")
PLAIN = (
    *("waiting_share", "life_ns", "held_ns", "waiting_ns", "outside_ns", "unknown_ns"),
    *("acquires", "contended_acquires", "voluntary_releases", "forced_yields", "requests_made"),
)
METRICS = (*PLAIN, *(f"{name}.{part}" for name in DISTRIBUTIONS for part in OF_DISTRIBUTION))

_VALUE = re.compile(r"([\d_]+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d+))?\s*(%|ns|us|µs|ms|s|)")
_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


@dataclass(frozen=True)
class Bound:
    """The most that `metric` may be: ns, a share from 0 to 1 or a count."""

    metric: str
    thread: str  # a shell pattern; "": every thread
    most: float

    @property
    def name(self) -> str:
        """As it is written, without the value."""
        return f"{self.metric}@{self.thread}" if self.thread else self.metric

    def __str__(self) -> str:
        return f"{self.name}={shown(self.metric, self.most)}"


@dataclass(frozen=True)
class Verdict:
    """A bound held against one thread. `why` is None where it is kept."""

    bound: Bound
    trace: str
    thread: str
    why: str | None


def parsed(text: str) -> Bound:
    """A bound from `METRIC[@THREAD]=VALUE`. Raises UsageError."""
    name, equals, value = text.rpartition("=")
    if not equals:
        raise UsageError(f"{text}: a bound is METRIC[@THREAD]=VALUE, as in waiting_share@echo=0.1")
    return named(name, value)


def named(name: str, value: object) -> Bound:
    """A bound from `METRIC[@THREAD]` and its value, a number or a text with a unit."""
    metric, _, thread = name.partition("@")
    check_metric(metric)
    return Bound(metric, thread, _number(metric, value, name))


def check_metric(metric: str) -> None:
    """Raises UsageError for what no thread has."""
    if metric not in METRICS:
        close = difflib.get_close_matches(metric, METRICS, 1)
        hint = f"; did you mean {close[0]}?" if close else "; `gilscope summary --json` has them"
        raise UsageError(f"{metric}: no figure of a thread{hint}")


def _number(metric: str, value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise UsageError(f"{name}: a bound is a number or a text such as '5 ms', not {value!r}")
    match = _VALUE.fullmatch(str(value).strip())
    if not match:
        raise UsageError(f"{name}: {value} is no value (try 0.1, 10 %, 5 ms)")
    digits, exponent, unit = match.groups()
    number = float(digits.replace("_", "") + (f"e{exponent}" if exponent else ""))
    if unit == "%" and metric.endswith("_share"):
        return number / 100
    if unit in _NS and _is_time(metric):
        return number * _NS[unit]
    if unit:
        raise UsageError(f"{name}: {value} is no {_sort(metric)}")
    return number


def _is_time(metric: str) -> bool:
    return metric.partition(".")[0].endswith("_ns") and not metric.endswith(".count")


def _sort(metric: str) -> str:
    return "time" if _is_time(metric) else "share" if metric.endswith("_share") else "count"


def shown(metric: str, value: float) -> str:
    """`5 ms`, `12 %`, `1,234`."""
    if _is_time(metric):
        return duration(round(value))
    if metric.endswith("_share"):
        return percent(round(value * 1e9), 10**9)
    return f"{value:,.10g}"


def value_of(thread: Row, metric: str) -> float | None:
    """The figure of a thread's JSON, None where it is not known, 0 where there was nothing."""
    field, _, part = metric.partition(".")
    value = thread.get(field)
    if part and isinstance(value, dict):
        # Of no waits none was long.
        return 0 if value["count"] == 0 else value[part]
    return value


def held_against(bounds: Sequence[Bound], summary: Row, trace: str) -> Iterator[Verdict]:
    """A verdict for each bound and thread that it is of. Raises UsageError where there is none."""
    threads = [thread for process in summary["processes"] for thread in process["threads"]]
    for bound in bounds:
        mine = [t for t in threads if fnmatchcase(t["name"], bound.thread or "*")]
        if not mine:
            names = ", ".join(sorted({t["name"] for t in threads})[:5]) or "none at all"
            raise UsageError(
                f"{bound.name}: no thread of {trace} is called so; there: {names}"
                if bound.thread
                else f"{trace} has no thread that {bound.name} could be of"
            )
        for thread in mine:
            yield Verdict(bound, trace, thread["name"], _why(bound, thread, summary))


def _why(bound: Bound, thread: Row, summary: Row) -> str | None:
    value = value_of(thread, bound.metric)
    if value is None:
        return f"{bound.metric} is not known, so its bound counts as broken"
    if value > bound.most:
        most = shown(bound.metric, bound.most)
        return f"{bound.metric} is {shown(bound.metric, value)}, more than {most}"
    if thread["unknown_ns"] and bound.metric != "unknown_ns":
        unknown = percent(thread["unknown_ns"], thread["life_ns"])
        return f"{unknown} of its life is unknown, so the bound on {bound.metric} counts as broken"
    if summary["lost_events"]:
        lost = f"{summary['lost_events']:,} events were lost"
        return f"{lost}, so the bound on {bound.metric} counts as broken"
    return None
