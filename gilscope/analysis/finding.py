"""A finding: what a summary says in one or two sentences, and what it is about.

A rule is a function of a `Case` that yields findings. `gilscope.analysis.findings` has the list of
all rules; a rule of another kind is a file of its own, `findings_KIND.py`, and its name there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gilscope.analysis.library import is_for_workers

if TYPE_CHECKING:
    from gilscope.analysis.kept import Kept
    from gilscope.analysis.sites import Sites
    from gilscope.trace.model import Trace

Row = dict[str, Any]

# All that a finding can be of. The first finding of a summary is its verdict.
KINDS = (
    "convoy",  # a thread comes back from IO and waits for one that computes
    "io-waits",  # the same, where no policy helps: for threads like itself, or for what obeys none
    "crowd",  # threads that compute share one GIL
    "c-call",  # a call into C keeps the GIL
    "no-processor",  # who had the GIL had no processor
    "gc",
    "lock",
    "import",
    "pickling",
    "freeze",  # one long wait
    "hang",
    "deadlock",
    "switch-interval",  # the program changed it
    "slow-task",
    "nothing",  # to fix
    "unknown",  # too little was seen for a verdict
    "incomplete",  # what was seen is not all
    "trust",  # how far the numbers can be trusted
)
SEVERITIES = ("problem", "ok", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """`text` has the names of threads, and what is to be typed, in backquotes.

    `value_ns` is how long the thread that suffered most waited for this cause; problems are sorted
    by it. `process` and `thread` are ids, the thread is that one; `site` is the culprit's line, as
    SITE of the summary. `gain` is of a convoy: what the policy io-priority would win. None: it is
    about no such thing, or that is not known.
    """

    severity: str
    kind: str
    text: str
    value_ns: int | None = None
    process: int | None = None
    thread: int | None = None
    site: Row | None = None
    gain: Row | None = None

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind
        assert self.severity in SEVERITIES, self.severity

    @property
    def json(self) -> Row:
        """As the summary has it."""
        return asdict(self)


@dataclass(frozen=True)
class Case:
    """What a rule may look at: one process of a summary, and the trace behind it."""

    trace: Trace
    sites: Sites
    summary: Row
    process: Row
    names: dict[int, str]  # of threads, by id, as they are written in a sentence
    kept: list[Kept]  # its holds that went on after their thread was asked for the GIL, if worth it

    @cached_property
    def threads(self) -> dict[int, Row]:
        """The process's threads, by id."""
        return {thread["id"]: thread for thread in self.process["threads"]}

    @cached_property
    def blame(self) -> dict[int, list[Row]]:
        """The rows of blame of each waiter, but for those of who waited for threads to begin or to
        be done: that is no loss, for it would have to wait for them anyhow; and of who waited for
        garbage collections, which are a finding of their own. Where most of a thread's waits of
        which the line is told were such, so are those of which none is."""
        rows: dict[int, list[Row]] = defaultdict(list)
        mostly = self._mostly_for_workers
        for row in self.process["blame"]:
            site = row["waiter_site"]
            of_gc = row["holder_site"] and row["holder_site"]["gc"]
            for_workers = is_for_workers(site["library"]) if site else row["waiter"] in mostly
            if not of_gc and not for_workers:
                rows[row["waiter"]].append(row)
        return rows

    @cached_property
    def _mostly_for_workers(self) -> set[int]:
        told: Counter[int] = Counter()
        for_workers: Counter[int] = Counter()
        for row in self.process["blame"]:
            if site := row["waiter_site"]:
                told[row["waiter"]] += row["wait_ns"]
                for_workers[row["waiter"]] += row["wait_ns"] * is_for_workers(site["library"])
        return {waiter for waiter, ns in for_workers.items() if ns > told[waiter] / 2}

    @cached_property
    def behind_locks(self) -> Counter[int]:
        """Of each thread, for how long it waited for a lock while who had it waited for the GIL:
        ns that are the GIL's, and not the lock's."""
        behind: Counter[int] = Counter()
        for row in (*(self.process["locks"] or ()), *(self.process["conditions"] or ())):
            if row["waits_for"] == "lock":
                for part in row["blame"]:
                    behind[part["waiter"]] += part["gil_ns"]
        return behind

    def suffered_ns(self, thread: Row) -> int:
        """How long it waited, but for waits that are no loss and for kept holds, which are findings
        of their own."""
        waited: int = sum(row["wait_ns"] for row in self.blame.get(thread["id"], ()))
        return max(waited - sum(row.waited_by.get(thread["id"], 0) for row in self.kept), 0)

    def problem(
        self, kind: str, text: str, value_ns: int, thread: int | None, site: Row | None = None
    ) -> Finding:
        """A finding of this process."""
        return Finding("problem", kind, text, value_ns, self.process["id"], thread, site)


Rule = Callable[[Case], Iterable[Finding]]


def known(thread: Row) -> int:
    """What of a thread's life was seen, in ns."""
    seen: int = thread["life_ns"] - thread["unknown_ns"]
    return seen


def worst_site(rows: Iterable[Row], side: str = "holder_site") -> Row | None:
    """The site with the largest part of what these rows of blame waited, or None.

    One where a hold only ended is not where its time went, so another one goes before it.
    """
    spent: Counter[tuple[Any, ...]] = Counter()
    sites: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if site := row[side]:
            key = (bool(site["exact"]), *site.values())
            sites[key] = site
            spent[key] += row["wait_ns"]
    if not spent:
        return None
    return sites[max(spent, key=lambda key: (key[0], spent[key]))]
