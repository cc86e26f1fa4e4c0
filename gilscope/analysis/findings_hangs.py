"""Findings about what does not end: a circle of waits, and a hold or wait that the end cut off.

They rest on what the recorder saw from outside (`Metadata.looks`): a hold or wait that never ends
has no end at which its own thread could tell where it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gilscope.analysis.finding import Case, Finding, known
from gilscope.analysis.library import library_above
from gilscope.analysis.places import spot
from gilscope.analysis.sites import Site
from gilscope.analysis.units import counted, duration, escaped, percent
from gilscope.recorder.notes import LEFT
from gilscope.trace import stacks

if TYPE_CHECKING:
    from gilscope.analysis.library import Library
    from gilscope.trace.schema import Look, LookFrame, Metadata

Row = dict[str, Any]

LONG_NS = 1_000_000_000  # that it was open when the program ended, from which it is a hang
AWAY_SHARE = 0.95  # of its life that a thread is outside and not known to wait, to be noted
SIGNALLED = 128  # from this exit code on a signal ended the command
GIVEN_BACK = (1, 2, 3, 6)  # endings (enum gs_ending) of what its own thread ended
_HOLDS, _WAITS, _LOCKS = range(3)


class _Open(NamedTuple):
    """The interval in which a thread was seen."""

    sort: int  # _HOLDS …
    start_ns: int
    end_ns: int
    cut_off: bool  # it had no end of its own

    @property
    def ns(self) -> int:
        return self.end_ns - self.start_ns


def hang_findings(case: Case) -> Iterator[Finding]:
    """The circles of a process, and the longest hold and wait that nothing ended."""
    looks = [look for look in case.trace.metadata.looks if look.thread in case.threads]
    if not looks:
        return
    frames = _Frames(case.trace.metadata)
    seen = [(look, opened) for look in looks if (opened := _interval(case, look)) is not None]
    circles: dict[int, list[tuple[Look, _Open]]] = defaultdict(list)
    for look, opened in seen:
        if look.circle is not None:
            circles[look.circle].append((look, opened))
    for members in circles.values():
        yield _deadlock(case, members, frames)
    in_circles = {look.thread for members in circles.values() for look, _ in members}
    yield from _hangs(case, [one for one in seen if one[0].thread not in in_circles], frames)


def outside_notes(summary: Row, found: list[Finding]) -> Iterator[Finding]:
    """Of a program that a signal ended, and in which no hang was found: who was outside nearly all
    its life. What it did there is not known, and nothing is said of it by silence.
    """
    if any(finding.kind in ("hang", "deadlock") for finding in found):
        return
    for process in summary["processes"]:
        if not _ended_by_others(summary, process):
            continue
        away = [
            thread
            for thread in process["threads"]
            if known(thread) >= LONG_NS
            and thread["outside"].get("off_ns") is None  # the kernel did not tell
            and thread["outside_ns"] - ((thread["lock_wait_ns"] or {}).get("sum") or 0)
            >= AWAY_SHARE * known(thread)
        ]
        if away:
            most = max(away, key=lambda thread: int(thread["outside_ns"]))
            share = percent(most["outside_ns"], known(most))
            others = "" if len(away) == 1 else f" (and {counted(len(away) - 1, 'more thread')})"
            text = (
                f"`{escaped(most['name'])}`{others} was outside {share} of its life, asleep or in C"
                " code without the GIL: `--sched` tells. While a program hangs, `gilscope stacks"
                " PID` tells where each thread stands."
            )
            yield Finding("note", "unknown", text, None, process["id"], most["id"])


def _ended_by_others(summary: Row, process: Row) -> bool:
    """Whether somebody or something else than the program ended it, or the recording."""
    code = summary["exit_code"]
    return bool(
        process["unclean_end"]
        or summary["stopped"] == LEFT
        or (code is not None and code >= SIGNALLED)
    )


# ---- circles -------------------------------------------------------------------------------------


def _deadlock(case: Case, members: list[tuple[Look, _Open]], frames: _Frames) -> Finding:
    longest, whose = max((opened.ns, look.thread) for look, opened in members)
    steps = []
    for index, (look, _) in enumerate(members):
        holder = case.names[members[(index + 1) % len(members)][0].thread]
        what = f"the end of {holder}" if look.waits_for == "join" else f"{_what(look)}"
        has = "" if look.waits_for == "join" else f", which {holder} has"
        steps.append(f"{case.names[look.thread]} waits{frames.told(look)} for {what}{has}")
    began = min(opened.start_ns for _, opened in members) - case.trace.metadata.start_ns
    text = f"a deadlock, from {duration(began)} on for {duration(longest)}: {'; '.join(steps)}."
    if any(look.known_by == "with" for look, _ in members):
        text += " Who has a Lock is told by the `with` that it is inside."
    text += " Take them always in the same order, or never wait for one with another in hand."
    site = frames.site(members[0][0])
    return case.problem("deadlock", text, longest, whose, site)


# ---- what was cut off ----------------------------------------------------------------------------


def _hangs(case: Case, seen: list[tuple[Look, _Open]], frames: _Frames) -> Iterator[Finding]:
    """A hold explains the waits for the GIL, so those are none of their own."""
    worst: dict[int, tuple[int, Look, _Open]] = {}
    for look, opened in seen:
        if not opened.cut_off or opened.ns < LONG_NS or opened.sort == _WAITS:
            continue
        if opened.sort == _HOLDS and not _ended_by_others(case.summary, case.process):
            continue  # who ends a program has the GIL
        if opened.sort == _LOCKS and not _is_for_lock(look, frames.library(look)):
            continue
        if opened.sort not in worst or opened.ns > worst[opened.sort][0]:
            worst[opened.sort] = opened.ns, look, opened
    for spent, look, opened in worst.values():
        who, where = case.names[look.thread], frames.told(look)
        if opened.sort == _HOLDS:
            text = f"{who} had the GIL for {duration(spent)} and never gave it back{where}"
            if look.waits_for == "mutex":
                text += ": C code that waits for a mutex with the GIL"
            text += ". Nobody else could run Python meanwhile."
        else:
            text = f"{who} waited {duration(spent)} for {_what(look)}{where}, to the end"
            if look.holder is not None and look.holder in case.names:
                text += f"; {case.names[look.holder]} had it"
                last = _last(case, look.holder)
                text += frames.told(last) if last else ""
            elif look.waits_for == "lock":
                text += "; who had it is not known, a Lock does not note it"
            text += "."
        yield case.problem("hang", text, spent, look.thread, frames.site(look))


def _is_for_lock(look: Look, library: Library | None) -> bool:
    """An idle worker waits for an event, and a join for a thread: nothing is wrong with these."""
    if look.waits_for in ("condition", "join"):
        return False
    return library is None or not library.of_event


def _last(case: Case, thread: int) -> Look | None:
    """The last one of this thread."""
    looks = [look for look in case.trace.metadata.looks if look.thread == thread]
    return max(looks, key=lambda look: look.time_ns, default=None)


def _interval(case: Case, look: Look) -> _Open | None:
    """What the thread was in the middle of. A wait for a lock is inside no other.

    Of a process whose end nobody saw, what is open ends with its last record; that it was still
    open later is what the look says.
    """
    trace = case.trace
    for sort, rows in ((_LOCKS, trace.sync_waits), (_HOLDS, trace.holds), (_WAITS, trace.waits)):
        cut_off = ~np.isin(rows["ending"], GIVEN_BACK)
        found = np.flatnonzero(
            (rows["thread"] == look.thread)
            & (rows["start_ns"] <= look.time_ns)
            & ((look.time_ns <= rows["end_ns"]) | cut_off)
        )
        if len(found):
            row = rows[found[-1]]
            end_ns = max(int(row["end_ns"]), look.time_ns)
            return _Open(sort, int(row["start_ns"]), end_ns, bool(cut_off[found[-1]]))
    return None


def _what(look: Look) -> str:
    if look.waits_for == "import":
        return f"the import of {escaped(look.name)}" if look.name else "an import"
    return {
        "gil": "the GIL",
        "mutex": "a mutex of C code",
        "lock": "a Lock",
        "rlock": "an RLock",
    }.get(look.waits_for or "", "a lock")


class _Frames:
    """The frames of each look, and how its place is told."""

    def __init__(self, metadata: Metadata) -> None:
        self._of: dict[int, list[LookFrame]] = defaultdict(list)
        for frame in metadata.look_frames:
            self._of[frame.look].append(frame)
        files = [row.file for row in metadata.stacks]
        files += [row.file for row in metadata.look_frames]
        self._short = stacks.shortest_paths(files)

    def library(self, look: Look) -> Library | None:
        """What the wait is for, by the frames of the standard library."""
        return library_above(self._of[look.id])

    def site(self, look: Look) -> Row | None:
        """The first frame outside the standard library, as a SITE of the summary."""
        frames = self._of[look.id]
        if not frames:
            return None
        own = next((frame for frame in frames if not frame.library), frames[0])
        inside = None if own is frames[0] else stacks.where(frames[0])
        place = stacks.Site(own.file, own.line, own.function, inside)
        library = self.library(look)
        name = None if library is None else library.name
        return Site(place, exact=True, library=name, short=self._short[own.file]).json

    def told(self, look: Look) -> str:
        """` in app.py:17 work`; empty where nothing could be read."""
        site = self.site(look)
        return "" if site is None else f" in {spot(site)}"
