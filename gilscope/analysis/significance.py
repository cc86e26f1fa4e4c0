"""Whether several rows of two sets of runs differ by more than noise, all rows at once.

A permutation test: where nothing differs, which run stands on which side says nothing, so every
other way to part the runs would have been as likely. For each way each row has its t, and the
largest of them is kept. A row counts as changed where its own t is reached by that largest in at
most `ALPHA` of the ways: so the chance that *any* row is called changed though none is stays below
`ALPHA`, however the rows hang together. (Westfall and Young, Resampling-Based Multiple Testing,
1993: the single-step max-T procedure.) It assumes no distribution; it does assume that the runs of
both sides met the same machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALPHA = 0.05
MOST_WAYS = 20_000  # beyond, as many are drawn
_LEAST_SPREAD = 1e-9  # of a mean; equal figures have none


@dataclass(frozen=True)
class Test:
    """One entry a row: `p` is corrected for all rows, `visible` the least difference of the means
    that would have been called a change."""

    p: NDArray[np.float64]
    visible: NDArray[np.float64]
    ways: int  # to part the runs that were looked at

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Which rows differ."""
        found: NDArray[np.bool_] = self.p <= ALPHA
        return found


def can_tell(n_before: int, n_after: int) -> bool:
    """Whether so many runs a side can show any change at all: four and four can."""
    same = 2 if n_before == n_after else 1  # the sides may be named the other way round
    return same / comb(n_before + n_after, n_before) <= ALPHA


def test(before: NDArray[np.float64], after: NDArray[np.float64]) -> Test:
    """`before` and `after` have one line a run, one column a row; `can_tell` must hold."""
    runs = np.concatenate([before, after])
    sides = _ways(len(before), len(after))
    t, spread = _t(runs, sides)
    largest = np.max(t, axis=1) if t.shape[1] else np.zeros(len(t))
    own = t[0]
    # The first way is what was seen; rounding must not make it smaller than itself.
    reached = largest[:, None] >= own[None, :] * (1 - 1e-12)
    critical = float(np.quantile(largest, 1 - ALPHA, method="higher"))
    return Test(reached.mean(axis=0), critical * spread[0], len(sides))


def _ways(n_before: int, n_after: int) -> NDArray[np.float64]:
    """One line a way, 1 where a run stands before and 0 where it stands behind; first: as it is."""
    total = n_before + n_after
    if comb(total, n_before) <= MOST_WAYS:
        chosen = [list(way) for way in combinations(range(total), n_before)]
    else:
        dice = np.random.default_rng(0)
        chosen = [list(range(n_before))]
        chosen += [dice.permutation(total)[:n_before].tolist() for _ in range(MOST_WAYS)]
    sides = np.zeros((len(chosen), total))
    for line, way in zip(sides, chosen, strict=True):
        line[way] = 1
    return sides


def _t(
    runs: NDArray[np.float64], sides: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Welch's |t| of each way and row, and the spread of the difference of the means."""
    centred = runs - runs.mean(axis=0)
    means, spreads = [], []
    for side in (sides, 1 - sides):
        n = side.sum(axis=1, keepdims=True)
        mean = side @ centred / n
        variance = np.maximum(side @ centred**2 / n - mean**2, 0) * n / (n - 1)
        means.append(mean)
        spreads.append(variance / n)
    least = _LEAST_SPREAD * np.maximum(np.abs(runs).max(axis=0, initial=0), _LEAST_SPREAD)
    spread = np.sqrt(spreads[0] + spreads[1])
    spread = np.maximum(spread, least)
    return np.abs(means[1] - means[0]) / spread, spread
