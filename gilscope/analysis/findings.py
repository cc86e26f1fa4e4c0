"""Findings: what a summary says in words, each with a number from the trace.

The first finding is the verdict. `severity` is "problem", "ok", "warning" (the trace is not
whole) or "note" (how far it can be trusted).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gilscope.analysis.findings_locks import lock_findings
from gilscope.analysis.kept import NO_PROCESSOR, SLEEPS
from gilscope.analysis.names import names_of
from gilscope.analysis.units import counted, duration, percent
from gilscope.recorder.notes import DISK_FULL, DURATION, LEFT, LIMITS, LITTLE_ROOM, SNAPSHOT
from gilscope.safe_text import escaped

if TYPE_CHECKING:
    from gilscope.analysis.kept import Kept

Finding = dict[str, str]
Row = dict[str, Any]
Names = dict[int, str]  # of threads, by id, as they are written in a sentence

WORTH_SHARE = 0.15  # of its life that a thread waits, from which it is worth a sentence
QUIET_SHARE = 0.01  # of its life, from which its waits count as slow from a p99 of SLOW_WAIT_NS on
SLOW_WAIT_NS = 1_000_000
WORTH_NS = 1_000_000  # in all, below which no share of a short life is worth a sentence
CONVOY_WAITS = 2  # IO waits from which it is a pattern, and not a thread that waited at its start
CONVOY_SHARE = 0.5  # of its waiting, for threads that compute, from which IO priority may help
WORTH_GAIN = 1.2  # times as much work, from which a policy is worth a try
KEPT_SHARE = 0.05  # of the longest waiting thread's, from which C code that kept the GIL is told
HAD_PROCESSOR = 0.75  # of the time after a request, below which C code's lack of one is told
MAIN_SHARE = 0.5  # of a whole, from which a part is most of it
SIGINT_CODE = 130  # of the command, as a shell reports a program that Ctrl-C ended
LEAST_SHARE = 0.01  # of its waiting, below which a part is not told


def known(thread: Row) -> int:
    """What of a thread's life was seen, in ns."""
    seen: int = thread["life_ns"] - thread["unknown_ns"]
    return seen


def findings(summary: Row, kept: list[Kept]) -> list[Finding]:
    """All findings of a summary, the verdict first. `kept`: the worst first."""
    return [*_verdicts(summary, kept), *_warnings(summary), *_notes(summary)]


def _verdicts(summary: Row, kept: list[Kept]) -> list[Finding]:
    threads = [t for p in summary["processes"] for t in p["threads"]]
    name = {number: f"`{text}`" for number, text in names_of(threads).items()}
    if not any(t["acquires"] or t["wait_ns"]["count"] for t in threads):
        return [_say("ok", _nothing(summary), "nothing")]
    problems: list[tuple[int, Finding]] = []
    for process in summary["processes"]:
        problems += _kept(process, kept, name)
        problems += _victims(process, kept, name, summary["policy"]["name"])
        problems += _crowds(process, name)
        problems += [
            (spent, _say("problem", text, kind))
            for spent, kind, text in lock_findings(process, name)
        ]
    problems.sort(key=lambda found: -found[0])
    if problems:
        return [finding for _, finding in problems[:3]]
    return [_say("ok", _well(threads, name), "nothing")]


def _well(threads: list[Row], name: Names) -> str:
    """What is said where nothing is a problem. Rare waits may still be long ones."""
    life, waiting = sum(known(t) for t in threads), sum(t["waiting_ns"] for t in threads)
    slow = [
        t
        for t in threads
        if t["waiting_ns"] >= QUIET_SHARE * known(t)
        and (t["io_wait_ns"]["p99"] or 0) >= SLOW_WAIT_NS
    ]
    text = f"{'little' if slow else 'nothing'} to fix: threads waited {percent(waiting, life)} of"
    text += " their time for the GIL"
    if waiting:
        most = max(threads, key=lambda t: t["waiting_ns"])
        longest = max(threads, key=lambda t: t["wait_ns"]["max"] or 0)
        text += (
            f", {duration(waiting)} in all, {name[most['id']]} most; the longest wait was"
            f" {duration(longest['wait_ns']['max'])} ({name[longest['id']]})"
        )
    if slow:
        slowest = max(slow, key=lambda t: t["io_wait_ns"]["p99"])
        text += (
            f". {name[slowest['id']]} waited {duration(slowest['io_wait_ns']['p50'])} (p50) and"
            f" {duration(slowest['io_wait_ns']['p99'])} (p99) when it came back from IO, but seldom"
        )
    return text + "."


def _nothing(summary: Row) -> str:
    if not summary["events"]:
        return "the trace has 0 events."
    kinds = Counter(p["interpreter"] for p in summary["processes"])
    if kinds["free-threaded"]:
        n = kinds["free-threaded"]
        return f"no GIL was used: {_part(n, kinds.total())} ran a free-threaded Python."
    if not kinds["gil"]:
        return f"no GIL was seen in {counted(kinds.total(), 'process')}."
    events = counted(summary["events"], "event")
    return f"the trace has {events}, but none in which a thread took a GIL."


def _victims(process: Row, kept: list[Kept], name: Names, policy: str) -> list[tuple[int, Finding]]:
    """Threads that come back from IO and wait, under this policy."""
    worst_first = sorted(process["threads"], key=lambda t: -t["waiting_ns"])
    for thread in worst_first:
        waits = thread["io_wait_ns"]
        if not _worth(thread) or not _comes_from_io(thread):
            continue
        text = (
            f"{name[thread['id']]} waited {duration(waits['p99'])} (p99) for the GIL when it came"
            f" back from IO{_because(process, thread, name)}."
        )
        by_cpu = _held_by_cpu(process, kept, thread)
        life = known(thread)
        gain = life / max(life - by_cpu, 1)
        convoy = waits["count"] >= CONVOY_WAITS and by_cpu >= CONVOY_SHARE * thread["waiting_ns"]
        convoy = convoy and gain >= WORTH_GAIN
        if convoy and policy == "classic":
            text += (
                f" Try `gilscope run --policy io-priority`: of the {duration(life)} of"
                f" its life {duration(by_cpu)} went to waiting for threads that compute; without"
                f" that it could do up to {gain:.3g} times as much."
            )
        found = _say("problem", text, "convoy" if convoy else "io-waits")
        return [(thread["waiting_ns"], found)]
    return []


def _worth(thread: Row) -> bool:
    return bool(thread["waiting_ns"] >= max(WORTH_NS, WORTH_SHARE * known(thread)))


def _comes_from_io(thread: Row) -> bool:
    return thread["class"] != "cpu" and bool(thread["io_wait_ns"]["count"])


def _held_by_cpu(process: Row, kept: list[Kept], waiter: Row) -> int:
    """What of its waiting a policy could spare it: C code that keeps the GIL obeys none."""
    computing = {t["id"] for t in process["threads"] if t["class"] == "cpu"}
    rows = (row for row in process["blame"] if row["waiter"] == waiter["id"])
    by_cpu: int = sum(row["wait_ns"] for row in rows if row["holder"] in computing)
    in_c = (row.waited_by.get(waiter["id"], 0) for row in kept if row.thread in computing)
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


def _kept(process: Row, kept: Iterable[Kept], name: Names) -> list[tuple[int, Finding]]:
    """Holds that were kept: the worst line of C code, and the worst thread without a processor."""
    waits = {t["id"]: t["waiting_ns"] for t in process["threads"]}
    found: dict[str, tuple[int, Finding]] = {}
    for row in kept:
        if row.thread not in waits or row.waited_ns < KEPT_SHARE * max(*waits.values(), 1):
            continue
        kind = "no-processor" if row.why == NO_PROCESSOR else "c-call"
        if kind not in found:
            found[kind] = row.waited_ns, _say("problem", _kept_for(row, name), kind)
    return list(found.values())


def _kept_for(row: Kept, name: Names) -> str:
    times = f"{row.times:,} times after it was asked for it, for {duration(row.median_ns)} (median)"
    others = f"Others waited {duration(row.waited_ns)} for it."
    if row.why == NO_PROCESSOR:
        return (
            f"{name[row.thread]} kept the GIL {times}, because it had no processor: it ran for"
            f" {duration(row.cpu_ns)} of {duration(row.late_ns)}. {others} That is not Python's"
            " doing: other programs, or a limit on this one's processors, took them."
        )
    where = f", {place(row.site.json)}" if row.site else ""
    text = f"{name[row.thread]} kept the GIL {times}{where}: "
    advice = " Split the work into smaller calls, move it to a process, or let the C code release"
    advice += " the GIL."
    if row.why == SLEEPS:
        return text + f"a call into C that waits and does not let it go. {others}{advice}"
    if row.why is None:  # an older trace
        text += "a call into C that does not let it go, or a processor that others had."
        return f"{text} {others}{advice}"
    text += "a call into C that computes and does not let it go"
    if row.cpu_ns < HAD_PROCESSOR * row.late_ns:
        text += f", with a processor for only {percent(row.cpu_ns, row.late_ns)} of that time"
    return f"{text}. {others}{advice}"


def _crowds(process: Row, name: Names) -> list[tuple[int, Finding]]:
    """Threads that compute and wait: for each other, or one for whoever keeps the GIL."""
    crowds: dict[int, list[Row]] = defaultdict(list)
    for thread in process["threads"]:
        if _worth(thread) and not _comes_from_io(thread):
            crowds[thread["gil"]].append(thread)
    if not crowds:
        return []
    crowd = max(crowds.values(), key=lambda crowd: max(t["waiting_ns"] for t in crowd))
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
    return [(worst["waiting_ns"], _say("problem", text, "crowd"))]


_AS_ASKED = (None, SNAPSHOT, DURATION)
_STOPPED = {
    DISK_FULL: "the rings' file system was full",
    LITTLE_ROOM: "the rings' file system had little room",
    LIMITS: "a limit around gilscope",
    LEFT: "gilscope was asked to end twice, and the program went on",
}


def _warnings(summary: Row) -> list[Finding]:
    found = []
    if lost := summary["lost_events"]:
        total = summary["events"] + lost
        were = "was" if lost == 1 else "were"
        found.append(
            f"{counted(lost, 'event')} {were} lost ({percent(lost, total)}): what happened there is"
            " unknown."
        )
    if summary["stopped"] not in _AS_ASKED:
        text = f"recording stopped early ({_STOPPED.get(summary['stopped'], summary['stopped'])})"
        if summary["stopped_after_ns"] is not None:
            after = duration(summary["stopped_after_ns"])
            text += f", after {after} of {duration(summary['duration_ns'])}"
        found.append(text + "; what came later is unknown.")
    pids = _unclean(summary)
    if pids and not _interrupted(summary):
        of_them = ", ".join(map(str, pids[:3])) + (", …" if len(pids) > 3 else "")
        total = len(summary["processes"])
        # The recording waits for the command, but Ctrl-C or its own end leaves others running.
        running = " or still ran at the end" if total > 1 or summary["exit_code"] is None else ""
        found.append(
            f"{_part(len(pids), total)} ended without saying so (killed, or _exit){running}:"
            f" {of_them}; what was open ends there."
        )
    return [_say("warning", text, "incomplete") for text in found]


def _unclean(summary: Row) -> list[int]:
    return [p["pid"] for p in summary["processes"] if p["unclean_end"]]


def _interrupted(summary: Row) -> bool:
    """Ended by Ctrl-C: Python tidies up, and then lets the signal kill it."""
    return bool(summary["exit_code"] == SIGINT_CODE)


def _part(number: int, total: int) -> str:
    return "its only process" if total == 1 else f"{number:,} of {total:,} processes"


def _notes(summary: Row) -> list[Finding]:
    found = []
    inferred = {
        _minor(process["python"])
        for process in summary["processes"]
        if process["inferred"] and any(t["requests_made"] for t in process["threads"])
    }
    if inferred:
        found.append(
            f"forced yields are inferred from the calls of Python {_versions(sorted(inferred))}; "
            "some of them may look voluntary."
        )
    unread = {p["python"] or "?" for p in summary["processes"] if p["stacks"] == "unknown"}
    if unread:
        found.append(
            f"where in Python holds and waits ended is not known: the frames of Python"
            f" {', '.join(sorted(unread))} could not be read."
        )
    if (pids := _unclean(summary)) and _interrupted(summary):
        found.append(
            f"{_part(len(pids), len(summary['processes']))} ended without saying so, as Ctrl-C ends"
            " a program; what was open ends there."
        )
    if clamped := summary["clock"]["clamped"]:
        total = max(summary["events"], 1)
        were = "was" if clamped == 1 else "were"
        found.append(f"{clamped:,} of {total:,} time stamps {were} out of order and {were} raised.")
    return [_say("note", text, "trust") for text in found]


def _minor(python: str | None) -> tuple[int, ...]:
    digits = [part for part in (python or "").split(".")[:2] if part.isdigit()]
    return tuple(map(int, digits))


def _versions(minors: list[tuple[int, ...]]) -> str:
    return ", ".join(".".join(map(str, minor)) or "(version not known)" for minor in minors)


def place(site: Row) -> str:
    """`in app.py:17 work`, or where only the end of a hold is known, `until it let go at …`."""
    return f"{'in' if site['exact'] else 'until it let go at'} {spot(site)}"


def spot(site: Row) -> str:
    """`app.py:17 work`, and within the library what that line called.

    Where the time went before the call that ended the hold, that call is not its place.
    """
    file = site["file"].rsplit("/", 1)[-1] or "?"
    line = f":{site['line']}" if site["line"] else ""
    inside = f" (in {site['library_line']})" if site["library_line"] and site["exact"] else ""
    return escaped(f"{file}{line} {site['function']}".rstrip() + inside)


def _say(severity: str, text: str, kind: str) -> Finding:
    return {"severity": severity, "kind": kind, "text": text}
