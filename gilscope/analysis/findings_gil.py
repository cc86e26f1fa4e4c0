"""Findings about threads that wait for the GIL: they come back from IO, or compute.

Threads that do the same under numbered names are looked at together: of a hundred equal ones some
wait long by chance.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gilscope.analysis.finding import Case, Finding, known, worst_site
from gilscope.analysis.gain import gain
from gilscope.analysis.groups import group_of
from gilscope.analysis.kept import FREEZE_NS
from gilscope.analysis.library import IMPORT, PICKLING
from gilscope.analysis.places import spot
from gilscope.analysis.units import counted, duration, percent

Row = dict[str, Any]
Names = dict[int, str]  # of threads, by id, as they are written in a sentence

WORTH_SHARE = 0.15  # of the time in which others used its GIL, from which a wait is worth telling
WORTH_LIFE = 0.05  # and of its life
WORTH_NS = 1_000_000  # of one thread, below which no share of a short life is worth a sentence
WAKES_NS = 1_000_000  # of a wait in which the GIL was free, below which a thread only woke up
CONVOY_WAITS = 2  # IO waits from which it is a pattern, and not a thread that waited at its start
MAIN_SHARE = 0.5  # of a whole, from which a part is most of it
ALIKE_SHARE = 0.5  # of the holds of threads that compute, from which a thread's own are like theirs
LEAST_SHARE = 0.01  # of its waiting, below which a part is not told
POLLS_SHARE = 0.5  # of the times that a thread lets the GIL go, in which it sleeps for so short
LONG_INTERVAL_NS = 10_000_000  # a switch interval from which it is told


@dataclass(frozen=True)
class _Group:
    """Equal threads of one GIL that wait long enough to be worth a sentence."""

    threads: list[Row]
    suffered_ns: dict[int, int]  # by thread

    @property
    def worst(self) -> Row:
        """The thread that suffers most."""
        return max(self.threads, key=lambda thread: self.suffered_ns[thread["id"]])

    @property
    def most_ns(self) -> int:
        """What it suffers."""
        return max(self.suffered_ns.values())


def gil_findings(case: Case) -> Iterator[Finding]:
    """The thread that comes back from IO and waits longest, and the GIL on which most compute."""
    groups = list(_groups(case))
    from_io = [g for g in groups if _comes_from_io(g.threads[0])]
    if from_io:
        yield _victim(case, max(from_io, key=lambda group: group.most_ns))
    else:
        yield from _starved(case)
    crowds: dict[int, list[_Group]] = defaultdict(list)
    for group in groups:
        if not _comes_from_io(group.threads[0]):
            crowds[group.threads[0]["gil"]].append(group)
    if crowds:
        yield _crowd(case, max(crowds.values(), key=lambda of: max(g.most_ns for g in of)))


def _starved(case: Case) -> Iterator[Finding]:
    """Whoever waited long for one hold, whatever for, where the switch interval lets that be."""
    if (case.summary["policy"]["switch_interval_ns"] or 0) <= LONG_INTERVAL_NS:
        return
    waits = [
        wait
        for wait in case.summary["longest_waits"]
        if wait["waiter"] in case.threads and wait["held_ns"] >= FREEZE_NS
    ]
    if waits:
        # Who starts another thread, or joins it, has nothing else to do.
        wait = max(waits, key=lambda wait: (not _manages(wait["waiter_site"]), wait["wait_ns"]))
        holder = case.names.get(wait["holder"], "another thread")
        text = f"{case.names[wait['waiter']]} waited {duration(wait['wait_ns'])} for the GIL, which"
        text += f" {holder} held.{_interval(case)}"
        thread, site = wait["waiter"], wait["holder_site"]
        yield case.problem("switch-interval", text, wait["wait_ns"], thread, site)


def _manages(site: Row | None) -> bool:
    return bool(site and (site["library"] or "").startswith("threading.Thread."))


def _interval(case: Case) -> str:
    interval = duration(case.summary["policy"]["switch_interval_ns"])
    return (
        f" The switch interval is {interval}, not 5 ms: the program or a library set it so. Look"
        " for `sys.setswitchinterval`."
    )


def _groups(case: Case) -> Iterator[_Group]:
    alike: dict[tuple[str, int, bool], list[Row]] = defaultdict(list)
    for thread in case.process["threads"]:
        if thread["waiting_ns"]:
            key = (group_of(thread["name"]), thread["gil"], _comes_from_io(thread))
            alike[key].append(thread)
    for threads in alike.values():
        suffered = {thread["id"]: _suffered_ns(case, thread) for thread in threads}
        total = sum(suffered.values())
        shared, life = (
            sum(t["shared_ns"] for t in threads),
            sum(known(t) for t in threads),
        )
        group = _Group(threads, suffered)
        if (
            group.most_ns >= WORTH_NS
            and total >= max(WORTH_SHARE * shared, WORTH_LIFE * life)
            and not _only_wakes(case, group.worst)
        ):
            yield group


def _only_wakes(case: Case, thread: Row) -> bool:
    """Whether it waited for nobody, and each time no longer than it takes to wake up."""
    longest: int = thread["wait_ns"]["max"]
    return _was_free(case.blame[thread["id"]]) and longest < WAKES_NS


def _suffered_ns(case: Case, thread: Row) -> int:
    """Who computes waits for the GIL also behind locks whose owners do."""
    behind = 0 if _comes_from_io(thread) else case.behind_locks[thread["id"]]
    return case.suffered_ns(thread) + behind


def _comes_from_io(thread: Row) -> bool:
    return thread["class"] != "cpu" and bool(thread["io_wait_ns"]["count"])


def _victim(case: Case, group: _Group) -> Finding:
    thread, rows = group.worst, case.blame[group.worst["id"]]
    suffered = group.suffered_ns[thread["id"]]
    waits = thread["io_wait_ns"]
    who, they = case.names[thread["id"]], "it"
    if len(group.threads) > 1:
        who, they = f"{who} and {counted(len(group.threads) - 1, 'thread')} like it", "they"
    long = f"waited {duration(waits['p99'])} (p99 of {counted(waits['count'], 'wait')})"
    if waits["count"] == 1:
        long = f"waited once, {duration(waits['max'])},"
    text = f"{who} {long} for the GIL when {they} came back from IO"
    text += f"{because(thread, rows, case.names)}."
    computing = {t["id"] for t in case.process["threads"] if t["class"] == "cpu"}
    in_c = sum(r.waited_by.get(thread["id"], 0) for r in case.kept if r.thread in computing)
    by_cpu = max(sum(row["wait_ns"] for row in rows if row["holder"] in computing) - in_c, 0)
    in_sections = _in_sections(case, thread)
    movable = by_cpu - in_sections  # by a policy: sections heed none
    if _keeps_as_long(thread, [case.threads[other] for other in computing]):
        movable = 0
    kind = _kind(case, thread, rows, movable >= MAIN_SHARE * suffered)
    won = None
    if kind == "io-waits" and _polls(thread):
        text += _polling(case, len(group.threads), computing)
    if kind == "convoy" and case.summary["policy"]["name"] == "classic":
        won = gain(case, thread, movable)
        text += won.text
    if in_sections >= MAIN_SHARE * suffered:
        text += f" Atomic sections kept it {duration(in_sections)} of that: make them shorter."
    text += _ADVICE.get(kind, "")
    if kind == "switch-interval":
        text += _interval(case)
    site = None if kind == "no-processor" else worst_site(rows)
    found = case.problem(kind, text, suffered, thread["id"], site)
    return replace(found, gain=won.json if won else None)


def _keeps_as_long(thread: Row, computing: Sequence[Row]) -> bool:
    """Whether it keeps the GIL nearly as long as those that compute: to serve it first would only
    make others wait."""
    return _mean_hold_ns([thread]) >= ALIKE_SHARE * _mean_hold_ns(computing) > 0


def _mean_hold_ns(threads: Sequence[Row]) -> float:
    acquires = sum(thread["acquires"] for thread in threads)
    return sum(thread["held_ns"] for thread in threads) / acquires if acquires else 0


def _polls(thread: Row) -> bool:
    """Whether it sleeps, again and again, for less than half a millisecond. A policy serves such a
    thread as one that computes: nobody waits for what it does next."""
    return bool((thread["short_sleeps"] or 0) > POLLS_SHARE * thread["voluntary_releases"])


def _polling(case: Case, pollers: int, computing: set[int]) -> str:
    text = " It polls" if pollers == 1 else " They poll"
    text += ", by sleeps shorter than 0.5 ms"
    if len(computing) == 1:  # whatever it waits for is not for its like
        (slowed,) = computing
        waited = duration(case.threads[slowed]["waiting_ns"])
        text += f", which {case.names[slowed]} had to yield to and waited {waited} in all"
    return f"{text}: no policy helps. Wait for an event, or sleep longer."


def _was_free(rows: Sequence[Row]) -> bool:
    """Whether the GIL was free for it most of the time, and it did not run."""
    free: int = sum(row["wait_ns"] for row in rows if row["reason"] in ("wakeup", "idle"))
    waited: int = sum(row["wait_ns"] for row in rows)
    return free > MAIN_SHARE * waited


def _held(rows: Sequence[Row]) -> int:
    """How long another thread held it."""
    return sum(row["wait_ns"] for row in rows if row["reason"] == "held")


def _in_sections(case: Case, thread: Row) -> int:
    """How long it waited while an atomic section had the GIL."""
    sections = case.process["atomic"] or {"waiters": []}
    return sum(row["wait_ns"] for row in sections["waiters"] if row["thread"] == thread["id"])


_ADVICE = {
    "no-processor": " That is not the GIL: others had the processors.",
    IMPORT: " Import it before the threads begin.",
    "pickling": " Send less, or where the data is instead: a file's name, shared memory.",
}


def _kind(case: Case, thread: Row, rows: Sequence[Row], by_cpu: bool) -> str:
    held = _held(rows)
    if _was_free(rows):
        return "no-processor"
    for library, kind in ((IMPORT, "import"), (PICKLING, "pickling")):
        at = (r["wait_ns"] for r in rows if (s := r["holder_site"]) and s["library"] == library)
        if sum(at) > MAIN_SHARE * held:
            return kind
    if not by_cpu or _polls(thread):
        return "io-waits"
    if (case.summary["policy"]["switch_interval_ns"] or 0) > LONG_INTERVAL_NS:
        return "switch-interval"
    return "convoy" if thread["io_wait_ns"]["count"] >= CONVOY_WAITS else "io-waits"


def because(thread: Row, rows: Sequence[Row], names: Names) -> str:
    """What the largest part of a thread's waiting was for: `rows` of blame."""
    causes: Counter[str] = Counter()
    for row in rows:
        unseen = row["reason"] == "held" and row["holder"] is None and not row["others"]
        causes["unseen" if unseen else row["reason"]] += row["wait_ns"]
    if not causes:
        return ""
    (cause, spent), *_ = causes.most_common(1)
    waited = causes.total()
    if cause == "held":
        return _held_by(waited, names, [row for row in rows if row["reason"] == "held"])
    words = {
        "wakeup": "the GIL was free and the thread was still waking up",
        "idle": "the GIL was free and another thread took it",
        "unseen": "nobody saw who held it",
    }
    return f"; {percent(spent, waited)} of that time {words[cause]}"


def _held_by(waiting: int, name: Names, rows: list[Row]) -> str:
    holders: Counter[int] = Counter()
    for row in rows:
        if row["holder"] is not None:
            holders[row["holder"]] += row["wait_ns"]
    many = sum(row["wait_ns"] for row in rows if row["holder"] is None and row["others"])
    held = holders.total() + many
    if not holders or many > holders.total():
        return f"; many threads held it {percent(held, waiting)} of that time"
    (first, longest), *others = holders.most_common()
    if others and longest < MAIN_SHARE * held:  # none stands out
        more = "many" if many else f"{len(others):,}"
        text = f"; {name[first]} and {more} more held it {percent(held, waiting)}"
        return f"{text} of that time{_mostly_at(rows, held)}"
    text = f"; {name[first]} held it {percent(longest, waiting)} of that time"
    if (rest := held - longest) >= LEAST_SHARE * waiting:
        threads = counted(len(others), "other thread")
        text += f" ({'many other threads' if many else threads} {percent(rest, waiting)})"
    return text + _mostly_at([row for row in rows if row["holder"] == first], longest)


def _mostly_at(rows: list[Row], held_ns: int) -> str:
    """The line with the largest part of what these rows were held.

    A line where a hold ended is not where its time went, so it is not told as that.
    """
    seen: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for row in rows:
        if site := row["holder_site"]:
            (seen if site["exact"] else ended)[spot(site)] += row["wait_ns"]
    where, spent = next(iter(seen.most_common(1)), ("", 0))
    if ended.total() > MAIN_SHARE * held_ns:
        (last, _), *others = ended.most_common()
        text = f", most of it in holds of which only the end is known (let go at {last}"
        if others:
            text += f" and {counted(len(others), 'other line')}"
        elsewhere = spent >= LEAST_SHARE * held_ns and where != last
        return text + (f"), else mostly in {where}" if elsewhere else ")")
    if not seen:
        return ""
    return (
        f", {'most' if spent > MAIN_SHARE * held_ns else percent(spent, held_ns)} of it in {where}"
    )


def _crowd(case: Case, groups: Iterable[_Group]) -> Finding:
    """Threads that compute and wait: for each other, or one for whoever keeps the GIL."""
    crowd = [thread for group in groups for thread in group.threads]
    suffered = {thread["id"]: _suffered_ns(case, thread) for thread in crowd}
    worst = max(crowd, key=lambda thread: suffered[thread["id"]])
    rows, name = case.blame[worst["id"]], case.names[worst["id"]]
    waiting, shared = sum(suffered.values()), sum(t["shared_ns"] for t in crowd)
    if len(crowd) > 1:
        behind = sum(case.behind_locks[thread["id"]] for thread in crowd)
        text = (
            f"{name} and {len(crowd) - 1} more compute on one GIL: they waited"
            f" {percent(waiting - behind, shared)} of their time for it"
        )
        if behind >= LEAST_SHARE * shared:
            text += f", and {percent(behind, shared)} for locks whose owners waited for it"
        text += "."
    else:
        text = (
            f"{name} computes, and waited {percent(waiting, shared)} of its time for the"
            f" GIL{because(worst, rows, case.names)}."
        )
    kind = "crowd"
    if _was_free(rows):
        kind, text = "no-processor", text + _ADVICE["no-processor"]
    elif len(crowd) > 1 or _held(rows) > MAIN_SHARE * waiting:
        text += " Threads do not make Python code faster: use processes for it."
    site = None if kind == "no-processor" else worst_site(rows)
    if len(crowd) > 1 and site and site["exact"]:
        text += f" Where it is known, they waited mostly for {spot(site)}."
    return case.problem(kind, text, suffered[worst["id"]], worst["id"], site)
