"""The numbers behind a report's charts: each a list of rows that the chart and its table share."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.analysis.places import place

if TYPE_CHECKING:
    from gilscope.trace.model import Trace
    from gilscope.viewers.report.groups import Groups

Row = dict[str, Any]

KINDS = ("io", "cpu")
A_DECADE = 8  # bars in a power of ten
_BINS = 256  # more than 64 bits of ns have
COLOURED = 5  # groups that have a colour of their own
ON_MAP = 16  # groups on a side of the heat map
CAUSES = 25


def bars_of(trace: Trace, groups: Groups) -> list[Row]:
    """How many waits for the GIL were how long, IO and CPU apart."""
    waits = trace.waits
    labels = groups.labels(COLOURED)
    lengths = waits["end_ns"] - waits["start_ns"]
    bars = []
    for number, kind in enumerate(KINDS):
        mine = waits["cpu"] == number
        bins = np.floor(np.log10(np.maximum(lengths[mine], 1)) * A_DECADE).astype(np.int64)
        shown = np.minimum(groups.of_thread[waits["thread"][mine]], len(labels) - 1)
        counts = np.bincount(shown * _BINS + bins, minlength=_BINS)
        for key in np.flatnonzero(counts).tolist():
            group, step = divmod(key, _BINS)
            bars.append(
                {
                    "kind": kind,
                    "group": labels[group],
                    "from_ns": 10 ** (step / A_DECADE),
                    "to_ns": 10 ** ((step + 1) / A_DECADE),
                    "waits": int(counts[key]),
                }
            )
    return bars


def waits_of(groups: Groups) -> list[Row]:
    """The distribution of each group's waits, IO and CPU apart; the longest in all first."""
    rows = [
        {"group": group.label, "kind": kind, **group.row[f"{kind}_wait_ns"]}
        for group in groups.table
        for kind in KINDS
        if group.row[f"{kind}_wait_ns"]["count"]
    ]
    return sorted(rows, key=lambda row: -row["sum"])


def lives_of(groups: Groups) -> list[Row]:
    """The parts of each group's life, in ns and as shares."""
    rows = []
    for group in groups.table:
        parts = group.parts()
        whole = max(sum(parts.values()), 1)
        rows += [
            {"group": group.label, "part": part, "ns": ns, "share": ns / whole}
            for part, ns in parts.items()
        ]
    seen = {row["part"] for row in rows if row["ns"]} | {"held", "waiting", "outside"}
    return [row for row in rows if row["part"] in seen]


def blame_of(summary: Row, groups: Groups) -> list[Row]:
    """Who waited because of whom, by group; what stood in nobody's name has a name in brackets."""
    labels = groups.labels(ON_MAP)
    spent: Counter[tuple[str, str]] = Counter()
    for process in summary["processes"]:
        for row in process["blame"]:
            spent[_label(groups, labels, row["waiter"]), _holder(groups, labels, row)] += row[
                "wait_ns"
            ]
    return [
        {"waiter": waiter, "holder": holder, "wait_ns": ns}
        for (waiter, holder), ns in spent.most_common()
    ]


def _label(groups: Groups, labels: list[str], thread: int) -> str:
    return labels[min(int(groups.of_thread[thread]), len(labels) - 1)]


def _holder(groups: Groups, labels: list[str], row: Row) -> str:
    if row["reason"] == "wakeup":
        return "(waking up)"
    if row["reason"] == "idle":
        return "(overtaken)"
    if row["holder"] is None:
        return "(many threads)" if row["others"] else "(not known)"
    return _label(groups, labels, row["holder"])


def causes_of(summary: Row) -> tuple[list[Row], int]:
    """Who made others wait, by line, the worst first; and how many lines more there are. Equal
    lines of several processes are one."""
    rows: dict[str, Row] = {}
    for process in summary["processes"]:
        for line in process["lines"]:
            where = place(line["site"]) if line["site"] else "no line recorded"
            if line["first_line"] != line["last_line"]:
                where += f" (lines {line['first_line']} to {line['last_line']})"
            sums = ("holders", "waiters", "waits", "wait_ns", "held_ns")
            row = rows.setdefault(where, {"where": where, **dict.fromkeys(sums, 0)})
            for field in sums:
                row[field] += line[field]
    ranked = sorted(rows.values(), key=lambda row: -row["wait_ns"])
    return ranked[:CAUSES], max(len(ranked) - CAUSES, 0)


def objects_of(summary: Row, key: str) -> list[tuple[Row, Row]]:
    """Rows of `locks` or `conditions` with their processes, the longest waits first; those for an
    event last."""
    rows = [(process, row) for process in summary["processes"] for row in process[key] or ()]
    return sorted(
        rows,
        key=lambda entry: (entry[1]["waits_for"] == "event", -(entry[1]["wait_ns"]["sum"] or 0)),
    )


def collections_of(summary: Row) -> list[tuple[Row, Row]]:
    """What is known of garbage collections, by process, the most first."""
    rows = [(p, p["gc"]) for p in summary["processes"] if p.get("gc")]
    return sorted(rows, key=lambda entry: -(entry[1]["collections"] or 0))


def sections_of(summary: Row) -> list[tuple[Row, Row]]:
    """Atomic sections, by process that had some."""
    rows = [(process, process["atomic"]) for process in summary["processes"]]
    return [(process, atomic) for process, atomic in rows if atomic and atomic["sections"]]
