"""Findings about the trace: whether it is whole, and how far its numbers can be trusted."""

from __future__ import annotations

from typing import Any

from gilscope.analysis.finding import Finding
from gilscope.analysis.units import counted, duration, percent
from gilscope.recorder.notes import DISK_FULL, DURATION, LEFT, LIMITS, LITTLE_ROOM, SNAPSHOT

Row = dict[str, Any]

SIGINT_CODE = 130  # of the command, as a shell reports a program that Ctrl-C ended

_AS_ASKED = (None, SNAPSHOT, DURATION)
_STOPPED = {
    DISK_FULL: "the rings' file system was full",
    LITTLE_ROOM: "the rings' file system had little room",
    LIMITS: "a limit around gilscope",
    LEFT: "gilscope was asked to end twice, and the program went on",
}


def warnings(summary: Row) -> list[Finding]:
    """What of the program the trace does not have."""
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
            f"{part_of(len(pids), total)} ended without saying so (killed, or _exit){running}:"
            f" {of_them}; what was open ends there."
        )
    return [Finding("warning", "incomplete", text) for text in found]


def _unclean(summary: Row) -> list[int]:
    return [p["pid"] for p in summary["processes"] if p["unclean_end"]]


def _interrupted(summary: Row) -> bool:
    """Ended by Ctrl-C: Python tidies up, and then lets the signal kill it."""
    return bool(summary["exit_code"] == SIGINT_CODE)


def part_of(number: int, total: int) -> str:
    """`2 of 7 processes`."""
    return "its only process" if total == 1 else f"{number:,} of {total:,} processes"


def notes(summary: Row) -> list[Finding]:
    """What is inferred, or could not be read."""
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
            f"{part_of(len(pids), len(summary['processes']))} ended without saying so, as Ctrl-C"
            " ends a program; what was open ends there."
        )
    if clamped := summary["clock"]["clamped"]:
        total = max(summary["events"], 1)
        were = "was" if clamped == 1 else "were"
        found.append(f"{clamped:,} of {total:,} time stamps {were} out of order and {were} raised.")
    return [Finding("note", "trust", text) for text in found]


def _minor(python: str | None) -> tuple[int, ...]:
    digits = [part for part in (python or "").split(".")[:2] if part.isdigit()]
    return tuple(map(int, digits))


def _versions(minors: list[tuple[int, ...]]) -> str:
    return ", ".join(".".join(map(str, minor)) or "(version not known)" for minor in minors)
