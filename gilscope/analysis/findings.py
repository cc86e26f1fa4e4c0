"""Findings: what a summary says in words, each with a number from the trace.

The first finding is the verdict. `severity` is "problem", "ok", "warning" (the trace is not
whole) or "note" (how far it can be trusted).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from gilscope.analysis.units import duration, escaped, percent

Finding = dict[str, str]
Row = dict[str, Any]

VICTIM_SHARE = 0.05  # of its life that a thread waits, from which it is worth a sentence
SLOW_WAIT_NS = 1_000_000  # p99 of IO waits from which it is, when it waits QUIET_SHARE of its life
QUIET_SHARE = 0.01
CROWD_SHARE = 0.10  # of their lives that CPU threads wait, from which they crowd each other


def findings(summary: Row) -> list[Finding]:
    """All findings of a summary, the verdict first."""
    return [*_verdicts(summary), *_warnings(summary), *_notes(summary)]


def _verdicts(summary: Row) -> list[Finding]:
    threads = [t for p in summary["processes"] for t in p["threads"]]
    name = _Names(threads)
    if not any(t["acquires"] or t["wait_ns"]["count"] for t in threads):
        return [_say("ok", _nothing(summary))]
    problems = []
    for process in summary["processes"]:
        problems += _victims(process, name)
        problems += _crowds(process, name)
    problems.sort(key=lambda found: -found[0])
    if problems:
        return [_say("problem", text) for _, text in problems[:3]]
    life = sum(t["life_ns"] for t in threads)
    waiting = sum(t["waiting_ns"] for t in threads)
    worst = max(threads, key=lambda t: t["waiting_ns"])
    text = f"nothing to fix: threads waited {percent(waiting, life)} of their time"
    if worst["waiting_ns"]:
        longest = duration(worst["wait_ns"]["max"])
        text += f" for the GIL, {name(worst)} most (longest wait {longest})"
    return [_say("ok", text + ".")]


def _nothing(summary: Row) -> str:
    if not summary["events"]:
        return "the trace has 0 events."
    kinds = Counter(p["interpreter"] for p in summary["processes"])
    if kinds["free-threaded"]:
        n = kinds["free-threaded"]
        return f"no GIL was used: {n} of {kinds.total()} processes ran a free-threaded Python."
    if not kinds["gil"]:
        return f"no GIL was seen in {kinds.total()} processes."
    return f"the trace has {summary['events']:,} events, but none in which a thread took a GIL."


def _victims(process: Row, name: _Names) -> list[tuple[int, str]]:
    """Threads that come back from IO and wait."""
    found = []
    worst_first = sorted(process["threads"], key=lambda t: -t["waiting_ns"])
    for thread in worst_first:
        waits, share = thread["io_wait_ns"], thread["waiting_ns"] / max(thread["life_ns"], 1)
        slow = share >= QUIET_SHARE and waits["count"] and waits["p99"] >= SLOW_WAIT_NS
        if thread["class"] == "cpu" or not waits["count"] or not (share >= VICTIM_SHARE or slow):
            continue
        text = (
            f"{name(thread)} waited {duration(waits['p99'])} (p99) for the GIL when it came back"
            f" from IO{_because(process, thread, name)}."
        )
        found.append((thread["waiting_ns"], text))
        break
    return found


def _because(process: Row, thread: Row, name: _Names) -> str:
    by_id = {t["id"]: t for t in process["threads"]}
    rows = [row for row in process["blame"] if row["waiter"] == thread["id"]]
    if not rows:
        return ""
    row = max(rows, key=lambda r: r["wait_ns"])
    share = percent(row["wait_ns"], thread["waiting_ns"])
    if row["reason"] == "wakeup":
        return f"; {share} of that time the GIL was free and the thread was still waking up"
    if row["reason"] == "idle":
        return f"; {share} of that time the GIL was free and another thread took it"
    if row["holder"] is None:
        return f"; {share} of that time nobody saw who held it"
    others = sum(r["reason"] == "held" and r is not row for r in rows)
    other = f", {others} other threads the rest" if others > 1 else ""
    return f"; {name(by_id[row['holder']])} held it {share} of that time{other}"


def _crowds(process: Row, name: _Names) -> list[tuple[int, str]]:
    """Threads that compute and keep each other waiting."""
    crowd = [t for t in process["threads"] if t["class"] == "cpu"]
    crowd = [t for t in crowd if t["waiting_ns"] >= CROWD_SHARE * t["life_ns"]]
    if len(crowd) < 2:
        return []
    waiting, life = (sum(t[key] for t in crowd) for key in ("waiting_ns", "life_ns"))
    worst = max(crowd, key=lambda t: t["waiting_ns"])
    rest = f"{name(worst)} and {len(crowd) - 1} more"
    text = f"{rest} compute on one GIL: they waited {percent(waiting, life)} of their time for it."
    return [(worst["waiting_ns"], text)]


def _warnings(summary: Row) -> list[Finding]:
    found = []
    if lost := summary["lost_events"]:
        total = summary["events"] + lost
        found.append(
            f"{lost:,} events were lost ({percent(lost, total)}): what happened there is unknown."
        )
    if summary["stopped"]:
        ran = duration(summary["duration_ns"])
        found.append(f"recording stopped early ({summary['stopped']}), after {ran}.")
    unclean = [p for p in summary["processes"] if p["unclean_end"]]
    if unclean:
        pids = ", ".join(str(p["pid"]) for p in unclean[:3]) + (", …" if len(unclean) > 3 else "")
        found.append(
            f"{len(unclean)} of {len(summary['processes'])} processes ended without saying so"
            f" (killed, or _exit): {pids}; what was open ends there."
        )
    return [_say("warning", text) for text in found]


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
    if clamped := summary["clock"]["clamped"]:
        total = max(summary["events"], 1)
        found.append(f"{clamped:,} of {total:,} time stamps were out of order and were raised.")
    return [_say("note", text) for text in found]


def _minor(python: str | None) -> tuple[int, ...]:
    digits = [part for part in (python or "").split(".")[:2] if part.isdigit()]
    return tuple(map(int, digits))


def _versions(minors: list[tuple[int, ...]]) -> str:
    return ", ".join(".".join(map(str, minor)) or "(version not known)" for minor in minors)


class _Names:
    """Names of threads, with the tid where two have the same."""

    def __init__(self, threads: list[Row]) -> None:
        self._count = Counter(t["name"] for t in threads)

    def __call__(self, thread: Row) -> str:
        name = escaped(thread["name"])
        return f"`{name}`" + (f" ({thread['tid']})" if self._count[thread["name"]] > 1 else "")


def _say(severity: str, text: str) -> Finding:
    return {"severity": severity, "text": text}
