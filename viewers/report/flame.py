"""The flame of a report: trees of stacks as the page draws them, and their lines as a table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from gilscope.analysis.flame import flame_of
from gilscope.export.frames import burnt

if TYPE_CHECKING:
    from gilscope.trace.model import Trace
    from gilscope.viewers.report.groups import Groups

LEAST = 1 / 2000  # of all, below which a frame is not drawn by itself
DEEPEST = 48  # frames of a stack that are drawn
SMALLER, DEEPER = "(smaller)", "(deeper)"
LINES = 50

Node = dict[str, Any]


class Flame:
    """How long the GIL was held, and how much waiting that caused, by stack. Times in ns.

    Threads of one group are one root.
    """

    def __init__(self, trace: Trace, groups: Groups) -> None:
        flame = flame_of(trace)
        held: Node = {}
        caused: Node = {}
        lines: dict[str, Counter[str]] = {}
        owners = [row.thread for row in flame.rows]
        for number, stack in enumerate(burnt(flame, trace.metadata)):
            names = [frame.place for frame in stack.frames]
            if number < len(owners):
                names[0] = groups.table[groups.of_thread[owners[number]]].label
            _add(held, names, stack.held_ns)
            _add(caused, names, stack.caused_ns)
            line = lines.setdefault(names[-1], Counter())
            line["held"] += stack.held_ns
            line["caused"] += stack.caused_ns
        self.held_ns, self.caused_ns = flame.held_ns, flame.caused_ns + flame.free_ns
        self.trees = {
            "held": _node("held the GIL", self.held_ns, held, self.held_ns),
            "waiting": _node("waiting", self.caused_ns, caused, self.caused_ns),
        }
        ranked = sorted(lines.items(), key=lambda line: (-line[1]["caused"], -line[1]["held"]))
        self.lines = [(name, ns["held"], ns["caused"]) for name, ns in ranked[:LINES]]
        self.more_lines = max(len(lines) - LINES, 0)


_OWN = ""  # the key of a node's own time among its children


def _add(tree: Node, names: list[str], ns: int) -> None:
    if not ns:
        return
    if len(names) > DEEPEST:
        names = [*names[: DEEPEST - 1], DEEPER]
    for name in names:
        tree[_OWN] = tree.get(_OWN, 0) + ns
        tree = tree.setdefault(name or "?", {})
    tree[_OWN] = tree.get(_OWN, 0) + ns


def _node(name: str, ns: int, tree: Node, total: int) -> Node:
    children, smaller = [], 0
    for child, below in tree.items():
        if child == _OWN:
            continue
        if below[_OWN] < LEAST * total:
            smaller += below[_OWN]
        else:
            children.append(_node(child, below[_OWN], below, total))
    if smaller >= LEAST * total and children:
        children.append({"n": SMALLER, "v": smaller})
    node = {"n": name, "v": ns}
    return {**node, "c": children} if children else node
