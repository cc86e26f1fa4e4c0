"""Findings about threads that wait for the GIL: they come back from IO, or compute."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from gilscope.analysis.finding import Case, Finding, known, worst_site
from gilscope.analysis.places import spot
from gilscope.analysis.units import counted, duration, percent

Row = dict[str, Any]
Names = dict[int, str]  # of threads, by id, as they are written in a sentence

WORTH_SHARE = 0.15  # of its life that a thread waits, from which it is worth a sentence
WORTH_NS = 1_000_000  # in all, below which no share of a short life is worth a sentence
CONVOY_WAITS = 2  # IO waits from which it is a pattern, and not a thread that waited at its start
CONVOY_SHARE = 0.5  # of its waiting, for threads that compute, from which IO priority may help
WORTH_GAIN = 1.2  # times as much work, from which a policy is worth a try
MAIN_SHARE = 0.5  # of a whole, from which a part is most of it
LEAST_SHARE = 0.01  # of its waiting, below which a part is not told


def victims(case: Case) -> Iterator[Finding]:
    """The thread that comes back from IO and waits longest."""
    process, name = case.process, case.names
    worst_first = sorted(process["threads"], key=lambda t: -t["waiting_ns"])
    for thread in worst_first:
        waits = thread["io_wait_ns"]
        if not _worth(thread) or not _comes_from_io(thread):
            continue
        text = (
            f"{name[thread['id']]} waited {duration(waits['p99'])} (p99) for the GIL when it came"
            f" back from IO{_because(process, thread, name)}."
        )
        by_cpu = _held_by_cpu(case, thread)
        life = known(thread)
        gain = life / max(life - by_cpu, 1)
        convoy = waits["count"] >= CONVOY_WAITS and by_cpu >= CONVOY_SHARE * thread["waiting_ns"]
        convoy = convoy and gain >= WORTH_GAIN
        if convoy and case.summary["policy"]["name"] == "classic":
            text += (
                f" Try `gilscope run --policy io-priority`: of the {duration(life)} of"
                f" its life {duration(by_cpu)} went to waiting for threads that compute; without"
                f" that it could do up to {gain:.3g} times as much."
            )
        kind, site = "convoy" if convoy else "io-waits", _culprit(process, thread)
        yield case.problem(kind, text, thread["waiting_ns"], thread["id"], site)
        return


def _culprit(process: Row, waiter: Row) -> Row | None:
    """Where those were who kept it waiting longest."""
    rows = (r for r in process["blame"] if r["waiter"] == waiter["id"] and r["reason"] == "held")
    return worst_site(rows)


def _worth(thread: Row) -> bool:
    return bool(thread["waiting_ns"] >= max(WORTH_NS, WORTH_SHARE * known(thread)))


def _comes_from_io(thread: Row) -> bool:
    return thread["class"] != "cpu" and bool(thread["io_wait_ns"]["count"])


def _held_by_cpu(case: Case, waiter: Row) -> int:
    """What of its waiting a policy could spare it: C code that keeps the GIL obeys none."""
    computing = {t["id"] for t in case.process["threads"] if t["class"] == "cpu"}
    rows = (row for row in case.process["blame"] if row["waiter"] == waiter["id"])
    by_cpu: int = sum(row["wait_ns"] for row in rows if row["holder"] in computing)
    in_c = (row.waited_by.get(waiter["id"], 0) for row in case.kept if row.thread in computing)
    return max(by_cpu - sum(in_c), 0)


def _because(process: Row, thread: Row, name: Names) -> str:
    """What the largest part of its waiting was for."""
    rows = [row for row in process["blame"] if row["waiter"] == thread["id"]]
    causes: Counter[str] = Counter()
    for row in rows:
        unseen = row["reason"] == "held" and row["holder"] is None and not row["others"]
        causes["unseen" if unseen else row["reason"]] += row["wait_ns"]
    if not causes:
        return ""
    (cause, spent), *_ = causes.most_common(1)
    if cause == "held":
        return _held_by(process, thread, name, [row for row in rows if row["reason"] == "held"])
    words = {
        "wakeup": "the GIL was free and the thread was still waking up",
        "idle": "the GIL was free and another thread took it",
        "unseen": "nobody saw who held it",
    }
    return f"; {percent(spent, thread['waiting_ns'])} of that time {words[cause]}"


def _held_by(process: Row, thread: Row, name: Names, rows: list[Row]) -> str:
    holders: Counter[int] = Counter()
    for row in rows:
        if row["holder"] is not None:
            holders[row["holder"]] += row["wait_ns"]
    many = sum(row["wait_ns"] for row in rows if row["holder"] is None and row["others"])
    waiting, held = thread["waiting_ns"], holders.total() + many
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


def crowds(case: Case) -> Iterator[Finding]:
    """Threads that compute and wait: for each other, or one for whoever keeps the GIL."""
    process, name = case.process, case.names
    found: dict[int, list[Row]] = defaultdict(list)
    for thread in process["threads"]:
        if _worth(thread) and not _comes_from_io(thread):
            found[thread["gil"]].append(thread)
    if not found:
        return
    crowd = max(found.values(), key=lambda crowd: max(t["waiting_ns"] for t in crowd))
    waiting, life = sum(t["waiting_ns"] for t in crowd), sum(known(t) for t in crowd)
    worst = max(crowd, key=lambda t: t["waiting_ns"])
    if len(crowd) > 1:
        text = (
            f"{name[worst['id']]} and {len(crowd) - 1} more compute on one GIL: they waited"
            f" {percent(waiting, life)} of their time for it."
        )
    else:
        text = (
            f"{name[worst['id']]} computes, and waited {percent(waiting, life)} of its time for the"
            f" GIL{_because(process, worst, name)}."
        )
    rows = (row for row in process["blame"] if row["waiter"] == worst["id"])
    held = sum(row["wait_ns"] for row in rows if row["reason"] == "held")
    if len(crowd) > 1 or held > MAIN_SHARE * waiting:
        text += " Threads do not make Python code faster: use processes for it."
    yield case.problem("crowd", text, worst["waiting_ns"], worst["id"], _culprit(process, worst))
