"""Cycles of waits: each thread in one waits for what the next one has, so none of them goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Member = TypeVar("Member")


def cycles(waits_on: Mapping[Member, Member | None]) -> list[list[Member]]:
    """Each cycle once, as members of which each waits on the next, and the last on the first.

    A member waits on one at most, so cycles have no member in common, and one walk finds them all.
    The first of each is the one that comes first in `waits_on`.
    """
    found = []
    seen: set[Member] = set()
    for start in waits_on:
        path: dict[Member, int] = {}
        at: Member | None = start
        while at is not None and at not in seen and at not in path:
            path[at] = len(path)
            at = waits_on.get(at)
        if at is not None and at in path:
            cycle = list(path)[path[at] :]
            first = min(range(len(cycle)), key=lambda number: list(waits_on).index(cycle[number]))
            found.append(cycle[first:] + cycle[:first])
        seen.update(path)
    return found
