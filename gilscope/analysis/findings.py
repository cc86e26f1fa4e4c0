"""Findings: what a summary says in words, each with a number from the trace.

The first finding is the verdict. `severity` is "problem", "ok", "warning" (the trace is not
whole) or "note" (how far it can be trusted).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gilscope.analysis.finding import Case, Finding, Rule, known
from gilscope.analysis.findings_gc import gc_findings
from gilscope.analysis.findings_gil import gil_findings
from gilscope.analysis.findings_hangs import hang_findings, outside_notes
from gilscope.analysis.findings_kept import kept_findings, worth_telling
from gilscope.analysis.findings_locks import lock_findings
from gilscope.analysis.findings_sched import (
    lost_switches,
    preempted_findings,
    quota_findings,
    throttled_ns,
)
from gilscope.analysis.findings_trust import notes, part_of, warnings
from gilscope.analysis.findings_woken import woken_findings
from gilscope.analysis.kept import kept_gils
from gilscope.analysis.names import names_of
from gilscope.analysis.units import counted, duration, percent

if TYPE_CHECKING:
    from gilscope.analysis.sites import Sites
    from gilscope.trace.model import Trace

Row = dict[str, Any]
Names = dict[int, str]  # of threads, by id, as they are written in a sentence

# All rules for problems. Each is asked for each process; the order is of no account.
RULES: tuple[Rule, ...] = (
    hang_findings,
    kept_findings,
    gil_findings,
    lock_findings,
    gc_findings,
    woken_findings,
    quota_findings,
    preempted_findings,
)

ENDLESS = ("deadlock", "hang")  # told first: they explain the others' waits
MOST_PROBLEMS = 3
QUIET_SHARE = 0.01  # of its life, from which its waits count as slow from a p99 of SLOW_WAIT_NS on
SLOW_WAIT_NS = 1_000_000
WORTH_NS = 1_000_000
UNKNOWN_SHARE = 0.2  # of the threads' lives, from which nothing is said of the whole
FAILURES = range(1, 128)  # exit codes; others are signals, by which servers are ended


def findings(trace: Trace, sites: Sites, summary: Row) -> list[Row]:
    """All findings of a summary, the verdict first, ready for `json.dumps`."""
    found = [*_verdicts(trace, sites, summary), *warnings(summary), *notes(summary)]
    found += outside_notes(summary, found)
    return [finding.json for finding in (*found, *lost_switches(summary))]


def _verdicts(trace: Trace, sites: Sites, summary: Row) -> list[Finding]:
    threads = [t for p in summary["processes"] for t in p["threads"]]
    names = {number: f"`{text}`" for number, text in names_of(threads).items()}
    if not any(t["acquires"] or t["wait_ns"]["count"] for t in threads):
        return [Finding("ok", "nothing", _nothing(summary))]
    kept = kept_gils(trace, sites)
    cases = []
    for process in summary["processes"]:
        mine = worth_telling(kept, {thread["id"]: thread for thread in process["threads"]})
        cases.append(Case(trace, sites, summary, process, names, mine))
    problems = [finding for case in cases for rule in RULES for finding in rule(case)]
    endless = {finding.process for finding in problems if finding.kind in ENDLESS}
    problems = [f for f in problems if f.kind != "freeze" or f.process not in endless]
    stopped_ns = throttled_ns(summary)
    problems = [f for f in problems if not _is_of_quota(f, stopped_ns)]
    problems.sort(key=lambda finding: (finding.kind not in ENDLESS, -(finding.value_ns or 0)))
    return _merged(problems)[:MOST_PROBLEMS] or [_no_problem(summary, threads, names)]


def _is_of_quota(found: Finding, stopped_ns: int) -> bool:
    """A quota stops who waits and who is waited for alike, and is told itself: whether it may be
    half of what this finding is about.
    """
    if not found.value_ns or found.kind in (*ENDLESS, "no-processor"):
        return False
    return stopped_ns > 0 and 2 * stopped_ns >= found.value_ns


def _merged(problems: list[Finding]) -> list[Finding]:
    """Of several processes that have the same problem at the same place the first."""
    alike: dict[tuple[Any, ...], list[Finding]] = defaultdict(list)
    for found in problems:
        site = found.site or {}
        alike[found.kind, site.get("file"), site.get("function")].append(found)
    merged = []
    for first, *more in alike.values():
        others = {found.process for found in more} - {first.process}
        text = first.text
        if others:
            text += f" The same in {counted(len(others), 'more process')}."
        merged.append(replace(first, text=text))
    return merged


def _no_problem(summary: Row, threads: list[Row], names: Names) -> Finding:
    """`ok` is said of what was seen alone."""
    well = _well(threads, names)
    life, unknown = sum(t["life_ns"] for t in threads), sum(t["unknown_ns"] for t in threads)
    if unknown > UNKNOWN_SHARE * life:
        text = f"no verdict: {percent(unknown, life)} of what the threads did is unknown."
        return Finding("warning", "unknown", f"{text} Of the rest: {well}")
    code = summary["exit_code"]
    if code in FAILURES and max(t["waiting_ns"] for t in threads) < WORTH_NS:
        text = f"no verdict: the command failed (exit code {code}). Until then: {well}"
        return Finding("warning", "unknown", text)
    return Finding("ok", "nothing", well)


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
            f". When {name[slowest['id']]} came back from IO it waited"
            f" {duration(slowest['io_wait_ns']['p50'])} (p50) and"
            f" {duration(slowest['io_wait_ns']['p99'])} (p99), too seldom to matter"
        )
    return text + "."


def _nothing(summary: Row) -> str:
    if not summary["events"]:
        return "the trace has 0 events."
    kinds = Counter(p["interpreter"] for p in summary["processes"])
    if kinds["free-threaded"]:
        n = kinds["free-threaded"]
        return f"no GIL was used: {part_of(n, kinds.total())} ran a free-threaded Python."
    if not kinds["gil"]:
        return f"no GIL was seen in {counted(kinds.total(), 'process')}."
    events = counted(summary["events"], "event")
    return f"the trace has {events}, but none in which a thread took a GIL."
