"""The numbers behind a report's charts: each a list of rows that the chart and its table share."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from gilscope.analysis.findings import place
from gilscope.analysis.intervals import distribution

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


def waits_of(trace: Trace, groups: Groups) -> tuple[list[Row], list[Row]]:
    """Of the waits for the GIL, IO and CPU apart: bars (how many waits were how long), and each
    group's distribution."""
    waits = trace.waits
    labels = groups.labels(COLOURED)
    bars, table = [], []
    lengths = waits["end_ns"] - waits["start_ns"]
    of_group = groups.of_thread[waits["thread"]]
    for number, kind in enumerate(KINDS):
        mine = waits["cpu"] == number
        bin_of = np.floor(np.log10(np.maximum(lengths[mine], 1)) * A_DECADE).astype(np.int64)
        shown = np.minimum(of_group[mine], len(labels) - 1)
        counts = np.bincount(shown * _BINS + bin_of, minlength=_BINS)
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
        order = np.argsort(of_group[mine], kind="stable")
        ends = np.searchsorted(of_group[mine][order], np.arange(len(groups.table) + 1))
        sorted_lengths = lengths[mine][order]
        for index, group in enumerate(groups.table):
            of_it = sorted_lengths[ends[index] : ends[index + 1]]
            if len(of_it):
                table.append({"group": group.label, "kind": kind, **distribution(of_it)})
    table.sort(key=lambda row: -row["sum"])
    return bars, table


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


def causes_of(summary: Row, groups: Groups) -> tuple[list[Row], int]:
    """Who made others wait, by line, the worst first; and how many lines more there are."""
    rows: dict[str, Row] = {}
    for process in summary["processes"]:
        for row in process["blame"]:
            if row["reason"] != "held" or row["holder"] is None:
                continue
            site = row["holder_site"]
            where = place(site) if site else "no line recorded"
            found = rows.setdefault(
                where, {"where": where, "holders": Counter(), "waiters": set(), "wait_ns": 0}
            )
            found["wait_ns"] += row["wait_ns"]
            found["holders"][groups.table[groups.of_thread[row["holder"]]].label] += row["wait_ns"]
            found["waiters"].add(row["waiter"])
    ranked = sorted(rows.values(), key=lambda row: -row["wait_ns"])
    return ranked[:CAUSES], max(len(ranked) - CAUSES, 0)


def objects_of(summary: Row, key: str) -> list[tuple[Row, Row]]:
    """Rows of `locks` or `conditions` with their processes, the longest waits first."""
    rows = [(process, row) for process in summary["processes"] for row in process[key] or ()]
    return sorted(rows, key=lambda entry: -(entry[1]["wait_ns"]["sum"] or 0))


def collections_of(summary: Row) -> list[tuple[Row, Row]]:
    """What is known of garbage collections, by process."""
    return [(p, p["gc"]) for p in summary["processes"] if p.get("gc")]


def sections_of(summary: Row) -> list[tuple[Row, Row]]:
    """Atomic sections, by process that had some."""
    rows = [(process, process["atomic"]) for process in summary["processes"]]
    return [(process, atomic) for process, atomic in rows if atomic and atomic["sections"]]
