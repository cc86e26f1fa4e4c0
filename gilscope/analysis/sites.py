"""Sites: at which line of the user's a hold or a wait ended. Docs: docs/analysis.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gilscope.trace import stacks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.trace.model import Trace


class Site(NamedTuple):
    """A place; `exact` is whether the time went at this line, or at it or before it."""

    place: stacks.Site
    exact: bool

    @property
    def json(self) -> dict[str, Any]:
        """As the summary has it."""
        return {**self.place._asdict(), "exact": self.exact}


@dataclass(frozen=True)
class Sites:
    """`table[0]` is None, a place that was not recorded. The arrays index it, one row an interval;
    they are None in a trace without stacks.

    A wait's site is where its thread came back for the GIL. A hold's is where who asked for the GIL
    saw the holder (exact), or else where it let go.
    """

    table: list[Site | None]
    of_hold: NDArray[np.uint32] | None
    of_wait: NDArray[np.uint32] | None

    def json(self, index: int) -> dict[str, Any] | None:
        """SITE of the summary."""
        site = self.table[index]
        return None if site is None else site.json


def sites_of(trace: Trace) -> Sites:
    """The sites of a trace's intervals."""
    if not len(trace.stacks):
        return Sites([None], None, None)
    rows = trace.stacks
    exact = rows["seen"].astype(bool) | rows["of_wait"].astype(bool)
    pairs, inverse = np.unique(
        rows["leaf"].astype(np.uint64) << 1 | exact.astype(np.uint64), return_inverse=True
    )
    table: dict[Site | None, int] = {None: 0}
    known: dict[int, stacks.Site] = {}
    numbers = np.empty(len(pairs), np.uint32)
    for index, pair in enumerate(pairs.tolist()):
        leaf = pair >> 1
        if leaf not in known:
            known[leaf] = stacks.site(trace.metadata.stacks, leaf)
        numbers[index] = table.setdefault(Site(known[leaf], bool(pair & 1)), len(table))
    of_hold = np.zeros(len(trace.holds), np.uint32)
    of_wait = np.zeros(len(trace.waits), np.uint32)
    waits = rows["of_wait"] != 0
    numbers = numbers[inverse]
    of_wait[rows["interval"][waits]] = numbers[waits]
    of_hold[rows["interval"][~waits]] = numbers[~waits]
    return Sites(list(table), of_hold, of_wait)
