"""What changed between two sets of runs, by how much, and whether that is more than noise.

Figures are sums over a run; where a recording covers only part of a run they are for each second
of it. Rows that are below `WORTH_SHARE` of a run on both sides are left out: they would only make
the correction for many rows harder on the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from gilscope.analysis import significance
from gilscope.analysis.measures import Key, Run
from gilscope.analysis.units import counted, duration

WORTH_SHARE = 0.01  # of a run's length, from which a figure is compared
FLOOR_SHARE = 0.001  # of it, added to each figure: a ratio to nothing says nothing
MOST_CLAUSES = 4  # in the answer
LEAST_CHANGE = 0.01  # what is certain but smaller is not told

Result = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """One row: the figures of both sides, a run each (ns, or ns a second), and what they say."""

    key: Key
    before: list[float]
    after: list[float]
    p: float | None = None  # corrected for all rows; None: too few runs
    visible: float | None = None  # the least change, as a share, that these runs could have shown

    @property
    def share(self) -> float:
        """How much more: 0.5 is half as much again, -1 is all of it gone."""
        before, after = median(self.before), median(self.after)
        if not before:
            return math.inf if after else 0.0
        return after / before - 1

    @property
    def changed(self) -> bool | None:
        """None: cannot be known."""
        if self.p is None:
            return None
        return self.p <= significance.ALPHA and abs(self.share) >= LEAST_CHANGE


@dataclass(frozen=True)
class Sides:
    """The runs of both sides."""

    before: Sequence[Run]
    after: Sequence[Run]

    @property
    def new(self) -> list[str]:
        """Groups of threads that every run has behind and none before."""
        return _groups(self.after, self.before)

    @property
    def gone(self) -> list[str]:
        """The other way round."""
        return _groups(self.before, self.after)


def compare(before: Sequence[Run], after: Sequence[Run]) -> Result:
    """The dictionary that `gilscope compare --json` prints; docs/compare.md has its fields."""
    runs = [*before, *after]
    whole = all(run.whole for run in runs)
    rows = _tested(_rows(before, after, whole), _length(runs, whole))
    sides = Sides(before, after)
    certain = significance.can_tell(len(before), len(after))
    return {
        "schema": 1,
        "answer": _answer(rows, sides, certain),
        "before": [run.name for run in before],
        "after": [run.name for run in after],
        "basis": "run" if whole else "second",
        "certain": certain,
        "alpha": significance.ALPHA if certain else None,
        "rows": [_json(row) for row in rows],
        "new": sides.new,
        "gone": sides.gone,
        "notes": _notes(before, after, certain),
    }


def _length(runs: Sequence[Run], whole: bool) -> float:
    return median(run.duration_ns for run in runs) if whole else 1e9


def _rows(before: Sequence[Run], after: Sequence[Run], whole: bool) -> list[Change]:
    length = _length([*before, *after], whole)

    def figures(runs: Sequence[Run], key: Key) -> list[float]:
        return [
            run.figures.get(key, 0) / (1 if whole else max(run.duration_ns, 1) / 1e9)
            for run in runs
        ]

    keys = sorted({key for run in (*before, *after) for key in run.figures})
    rows = [Change(key, figures(before, key), figures(after, key)) for key in keys]
    return [
        row
        for row in rows
        if max(median(row.before), median(row.after)) >= WORTH_SHARE * length
        and (whole or row.key.kind != "run")  # how long a part was is no figure of the program
    ]


def _tested(rows: list[Change], length: float) -> list[Change]:
    """With what the test says, the surest and largest changes first."""
    if not rows:
        return []
    sides = (len(rows[0].before), len(rows[0].after))
    if significance.can_tell(*sides):
        floor = FLOOR_SHARE * length
        logs = [
            np.log(np.array([getattr(row, side) for row in rows]).T + floor)
            for side in ("before", "after")
        ]
        test = significance.test(*logs)
        rows = [
            Change(row.key, row.before, row.after, float(p), math.expm1(float(visible)))
            for row, p, visible in zip(rows, test.p, test.visible, strict=True)
        ]
    return sorted(rows, key=lambda row: (not row.changed, -_weight(row)))


def _weight(row: Change) -> float:
    return abs(median(row.after) - median(row.before))


def _groups(here: Sequence[Run], there: Sequence[Run]) -> list[str]:
    """Groups of threads that every run here has and none there."""
    every = set.intersection(*(set(run.threads) for run in here))
    return sorted(every - {group for run in there for group in run.threads})


# ---- words --------------------------------------------------------------------------------------


def _answer(rows: list[Change], sides: Sides, certain: bool) -> str:
    before, after, new, gone = sides.before, sides.after, sides.new, sides.gone
    told = [row for row in rows if _is_told(row, certain) and not _is_of(row, (*new, *gone))]
    # One run lasts longer than another for many reasons: that comes first where it is certain.
    told.sort(key=_order if certain else lambda row: (row.key.kind == "run", -_weight(row)))
    clauses = [clause for row in told if (clause := _clause(row, before, after))]
    clauses += [f"{_members(group, before)} no longer there" for group in gone]
    clauses += [f"{_members(group, after)} new" for group in new]
    if not clauses:
        if certain:
            return f"Nothing changed that these runs could show{_blind(rows)}."
        return "These two differ in nothing by a tenth or more; whether they differ at all is open."
    more = len(clauses) - MOST_CLAUSES
    text = "; ".join(clauses[:MOST_CLAUSES]) + (f"; and {more} more" if more > 0 else "")
    if certain:
        return text + ("; nothing else changed." if more <= 0 else ".")
    return f"{text}. Whether that is more than noise cannot be known from so few runs."


def _is_told(row: Change, certain: bool) -> bool:
    if row.key.kind == "line":  # what its waiters lose is told of them
        return False
    return bool(row.changed) if certain else abs(row.share) >= 0.1


def _is_of(row: Change, groups: Sequence[str]) -> bool:
    return row.key.kind == "thread" and row.key.name in groups


def _order(row: Change) -> tuple[int, float]:
    return (("run", "thread", "lock").index(row.key.kind), -_weight(row))


def _clause(row: Change, before: Sequence[Run], after: Sequence[Run]) -> str:
    name = row.key.name
    if row.key.kind == "run":
        return f"the program takes {_amount(row, 'time')}"
    if row.key.kind == "lock":
        return f"waits for the lock that {name} kept are {_amount(row, '')}"
    if row.key.measure == "held":
        return f"{name} computes {_amount(row, '')}"
    if row.key.measure == "lock_wait":
        return f"{name} waits {_amount(row, '')} for locks"
    p99 = [_p99(name, runs) for runs in (before, after)]
    text = f"{name} waits {_amount(row, '')} for the GIL"
    if None not in p99 and p99[0] != p99[1]:
        text += f" (after IO p99 {duration(int(p99[0] or 0))}, then {duration(int(p99[1] or 0))})"
    return text


def _p99(group: str, runs: Sequence[Run]) -> float | None:
    values = [value for run in runs if (value := run.io_p99.get(group))]
    return median(values) if values else None


def _amount(row: Change, noun: str) -> str:
    """`92 % less`, `3.1 times as much time`."""
    if row.share >= 1:
        times = f"{row.share + 1:.3g}" if math.isfinite(row.share) else "many"
        return f"{times} times as much{' ' * bool(noun)}{noun}"
    share = f"{100 * abs(row.share):.2g}"
    if share == "1e+02":
        share = "100" if row.share == -1 else ">99"
    return f"{share} % {'less' if row.share < 0 else 'more'}{' ' * bool(noun)}{noun}"


def _members(group: str, runs: Sequence[Run]) -> str:
    number = round(median(run.threads[group] for run in runs))
    return f"{group} is" if number == 1 else f"{group} ({counted(number, 'thread')}) are"


def _blind(rows: list[Change]) -> str:
    if not rows:
        return ""
    widest = max(rows, key=lambda row: row.visible or 0)
    what = widest.key.name or "the run"
    return f" (the least that they could: {100 * (widest.visible or 0):.2g} % of what {what} does)"


def _notes(before: Sequence[Run], after: Sequence[Run], certain: bool) -> list[str]:
    notes = []
    if not certain:
        notes.append(
            "to know what is more than noise, record at least four runs a side:"
            " gilscope record --repeat 5 -o DIR COMMAND…"
        )
    elif not _mixed(before, after):
        notes.append(
            "all runs of one side came before those of the other: a machine that got busier between"
            " them looks like a change; record the sides in turn"
        )
    unknown = [run.name for run in (*before, *after) if run.unknown_ns]
    if unknown:
        notes.append(
            f"part of {counted(len(unknown), 'run')} is unknown, and counts as nothing there:"
            f" {', '.join(unknown[:3])}{', …' if len(unknown) > 3 else ''}"
        )
    return notes


def _mixed(before: Sequence[Run], after: Sequence[Run]) -> bool:
    starts = [[run.started_ns for run in side] for side in (before, after)]
    return max(starts[0]) > min(starts[1]) and max(starts[1]) > min(starts[0])


def _json(row: Change) -> Result:
    return {
        **row.key._asdict(),
        "before": row.before,
        "after": row.after,
        "change": row.share if math.isfinite(row.share) else None,
        "p": row.p,
        "changed": row.changed,
        "visible": row.visible,
    }
