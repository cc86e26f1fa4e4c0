"""Sites: at which line of the user's a hold or a wait ended. Docs: docs/analysis.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gilscope.analysis.collections import mostly_collections
from gilscope.analysis.library import Activities, Library
from gilscope.trace import stacks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gilscope.trace.model import Trace


class Site(NamedTuple):
    """A place; `exact` is whether the time went at this line, or at it or before it. `library` is
    what its line called there, by the name of gilscope.analysis.library, or None; `short` is the
    end of the file's path that no other file of the trace has; `gc`, whether the time went to
    garbage collections there.
    """

    place: stacks.Site
    exact: bool
    library: str | None = None
    short: str = ""
    gc: bool = False

    @property
    def json(self) -> dict[str, Any]:
        """As the summary has it."""
        return {
            **self.place._asdict(),
            "exact": self.exact,
            "library": self.library,
            "short": self.short,
            "gc": self.gc,
        }


@dataclass(frozen=True)
class Sites:
    """`table[0]` is None, a place that was not recorded. The arrays index it, one row an interval;
    they are None in a trace without stacks.

    A wait's site is where its thread came back for the GIL. A hold's is where who asked for the GIL
    saw the holder (exact), or else where it let go. Of locks and conditions, a wait's is where it
    waited, and a release's or a notify's where it was made; `library` indexes `libraries`, which
    says what a wait was for (0: not known).
    """

    table: list[Site | None]
    of_hold: NDArray[np.uint32] | None
    of_wait: NDArray[np.uint32] | None
    of_sync_wait: NDArray[np.uint32] | None = None
    of_notify: NDArray[np.uint32] | None = None
    libraries: list[Library | None] = field(default_factory=lambda: [None])
    library: NDArray[np.uint32] | None = None  # a row a wait for a lock or a condition

    def json(self, index: int) -> dict[str, Any] | None:
        """SITE of the summary."""
        site = self.table[index]
        return None if site is None else site.json


def sites_of(trace: Trace) -> Sites:
    """The sites of a trace's intervals."""
    if not len(trace.stacks) and not len(trace.sync_stacks):
        return Sites([None], None, None)
    rows = trace.stacks
    waits = rows["of_wait"] != 0
    exact = (rows["seen"] != 0) | waits
    gc = np.zeros(len(rows), bool)
    gc[~waits] = mostly_collections(trace)[rows["interval"][~waits]]
    pairs, inverse = np.unique(
        rows["leaf"].astype(np.uint64) << 2 | gc.astype(np.uint64) << 1 | exact.astype(np.uint64),
        return_inverse=True,
    )
    table: dict[Site | None, int] = {None: 0}
    known: dict[int, tuple[stacks.Site, str | None]] = {}
    activities = Activities(trace.metadata.stacks)
    short = stacks.shortest_paths(row.file for row in trace.metadata.stacks)

    def number_of(leaf: int, *, is_exact: bool, is_gc: bool = False) -> int:
        if leaf not in known:
            frames = trace.metadata.stacks
            known[leaf] = stacks.site(frames, leaf), activities.activity_of(leaf)
        place, library = known[leaf]
        made = Site(place, is_exact, library, short[place.file], is_gc)
        return table.setdefault(made, len(table))

    numbers = np.array(
        [number_of(p >> 2, is_exact=bool(p & 1), is_gc=bool(p & 2)) for p in pairs.tolist()],
        np.uint32,
    )
    of_hold = np.zeros(len(trace.holds), np.uint32)
    of_wait = np.zeros(len(trace.waits), np.uint32)
    numbers = numbers[inverse]
    of_wait[rows["interval"][waits]] = numbers[waits]
    of_hold[rows["interval"][~waits]] = numbers[~waits]
    sync = _of_sync(trace, number_of, activities)
    return Sites(list(table), of_hold, of_wait, *sync)


def _of_sync(
    trace: Trace, number_of: Callable[..., int], activities: Activities
) -> tuple[Any, ...]:
    """Those of locks and conditions, as the fields of Sites."""
    rows = trace.sync_stacks
    leaves, inverse = np.unique(rows["leaf"], return_inverse=True)
    numbers = np.array([number_of(leaf, is_exact=True) for leaf in leaves.tolist()], np.uint32)
    libraries: dict[Library | None, int] = {None: 0}
    kinds = np.array(
        [
            libraries.setdefault(activities.library_of(leaf), len(libraries))
            for leaf in leaves.tolist()
        ],
        np.uint32,
    )
    of_wait, library = (np.zeros(len(trace.sync_waits), np.uint32) for _ in range(2))
    of_notify = np.zeros(len(trace.notifies), np.uint32)
    waits = rows["of_wait"] != 0
    of_wait[rows["interval"][waits]] = numbers[inverse][waits]
    library[rows["interval"][waits]] = kinds[inverse][waits]
    of_notify[rows["interval"][~waits]] = numbers[inverse][~waits]
    return of_wait, of_notify, list(libraries), library
