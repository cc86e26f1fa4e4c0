"""The section that says how it was recorded, and how far the numbers can be trusted."""

from __future__ import annotations

import datetime
from typing import Any

from gilscope.analysis.units import duration, percent
from gilscope.viewers.report.html import Html, code, table, tag
from gilscope.viewers.report.parts import NOT_KNOWN, section, time

Row = dict[str, Any]


def recorded(summary: Row, trace_name: str, version: str, began_ns: int) -> Html:
    """How it was recorded, and how far the numbers can be trusted."""
    began = datetime.datetime.fromtimestamp(began_ns / 1e9, datetime.timezone.utc)
    policy, clock = summary["policy"], summary["clock"]
    lost = summary["lost_events"]
    facts = [
        ("command", " ".join(summary["command"]) or NOT_KNOWN),
        ("began", f"{began:%Y-%m-%d %H:%M:%S} UTC"),
        ("lasted", duration(summary["duration_ns"])),
        ("exit code", NOT_KNOWN if summary["exit_code"] is None else str(summary["exit_code"])),
        ("events", f"{summary['events']:,}"),
        ("events lost", f"{lost:,}" + (": what happened there is not known" if lost else "")),
        ("recording stopped early", _stopped(summary)),
        ("policy", _policy(policy)),
        ("switch interval", time(policy["switch_interval_ns"], NOT_KNOWN)),
        ("clock", f"{clock['source']}, {clock['clamped']:,} stamps raised"),
        ("recorded by", f"gilscope {version}"),
        ("trace", trace_name),
    ]
    rows = [
        (
            str(p["pid"]),
            " ".join(p["command"]) or NOT_KNOWN,
            p["python"] or NOT_KNOWN,
            p["feed"] or "none",
            {"told": "recorded", "unknown": "its frames could not be read"}.get(
                p["stacks"], "none was due"
            ),
            duration(p["life_ns"]),
            "not known" if p["attached_at_ns"] else "seen",
            f"{p['lost_events']:,}",
            "not seen" if p["unclean_end"] else "seen",
        )
        for p in sorted(summary["processes"], key=lambda p: p["interpreter"] != "gil")
    ]
    headers = ("process", "command", "Python", "feed", "stacks", "life", "its begin", "lost events",
               "its end")  # fmt: skip
    notes = [tag("li", code(f["text"])) for f in summary["findings"] if f["severity"] == "note"]
    return section(
        "recording",
        "How it was recorded",
        table("The recording", ("what", "value"), facts, left=2),
        table("Processes", headers, rows, left=5),
        _gils(summary),
        tag("ul", notes) if notes else None,
    )


def _stopped(summary: Row) -> str:
    if not summary["stopped"]:
        return "no"
    after = time(summary["stopped_after_ns"], NOT_KNOWN)
    return f"{summary['stopped']}, after {after}; what came later is not known"


def _policy(policy: Row) -> str:
    if policy["grace_ns"] is None:
        return str(policy["name"])
    return f"{policy['name']}, grace {duration(policy['grace_ns'])}"


def _gils(summary: Row) -> Html:
    used = [
        (p, g) for p in summary["processes"] for g in p["gils"] if g["held_ns"] or g["max_waiters"]
    ]
    used.sort(key=lambda entry: -entry[1]["contended_ns"])
    cells = [
        (
            f"{g['id']} of process {p['pid']}",
            percent(g["held_ns"], p["life_ns"]),
            percent(g["contended_ns"], p["life_ns"]),
            duration(g["unknown_ns"]) if g["unknown_ns"] else "none",
            f"{g['switches']:,}",
            f"{g['forced_yields']:,}",
            f"{g['max_waiters']:,}",
        )
        for p, g in used
    ]
    headers = (
        *("GIL", "held", "while others waited", "not known", "switches", "forced yields"),
        "most waiting at once",
    )
    return table("GILs, the most contended first", headers, cells)
