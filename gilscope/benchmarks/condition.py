"""What a native Condition and atomic sections win: `gilscope bench condition`.

Condition, Event, Queue, Barrier and Semaphore of three makes: *stock*, threading's own on its
Condition in Python; *native*, the same classes on the Condition in C; *atomic*, gilscope.locks. All
are measured where `gilscope run` or Python Plus watches the GIL, since atomic sections need it; on
one CPU, since two threads that hand over are ten times slower on two, and the kernel moves them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gilscope
from gilscope.benchmarks import chart, harness, windows
from gilscope.benchmarks.harness import CLASSIC, Results, Variant, Worker
from gilscope.benchmarks.report import Figure, Report, Row, publish
from gilscope.benchmarks.windows import Order, Window
from gilscope.errors import UsageError

HELP = "native, stock and atomic Condition, Event, Queue, Barrier and Semaphore, and their floors"

REPEATS = 9
KITS = ("stock", "native", "atomic")
PRIMITIVES = ("condition", "event", "queue", "barrier", "semaphore")
FLOORS = ("futex", "sem_t", "mutex + cond")
EMPTY = "empty"
COLUMNS = (
    *(*KITS, "floor"),
    *("native faster", "atomic faster", "native, of alone", "over floor"),
)
_PROGRAM = "primitives.py"


@dataclass(frozen=True)
class Load:
    """A line of the table: a use of one primitive, beside so many computing threads."""

    use: str  # uncontended, pair, crowd or floor
    what: str
    cpu: int = 0
    faster: tuple[float, float] | None = None  # than stock: a stock interpreter's, Python Plus's
    of_empty: float | None = None  # of the empty class's time, at most
    of_alone: float | None = None  # of its rate without computing threads, at least

    @property
    def name(self) -> str:
        """What is done."""
        use = {
            "uncontended": self.what,
            "pair": f"{self.what}, two threads",
            "crowd": f"{self.what}, 100 waiters",
            "floor": f"{self.what}, two C threads",
        }[self.use]
        return use + (f" + {self.cpu} CPU" if self.cpu else "")

    @property
    def is_shared(self) -> bool:
        """Whether two threads hand over beside computing ones: told of their rate without."""
        return bool(self.cpu) and self.use == "pair"

    @property
    def has_chain(self) -> bool:
        """Whether the same threads wake one another without a Condition too: its floor."""
        return (self.use, self.what) == ("crowd", "condition")

    @property
    def alone(self) -> Load:
        """The same without computing threads."""
        return replace(self, cpu=0, of_alone=None)

    def windows(self, kits: Sequence[str], seconds: float) -> list[Window]:
        """Its measurements of these makes."""
        of: list[list[str]] = [[kit] for kit in kits] if self.is_rate else [list(kits)]
        order: Order = {"use": self.use, "what": self.what, "cpu": self.cpu}
        each = len(kits) if self.use == "crowd" else 1  # rounds of milliseconds, and of all makes
        return [Window(self.key(some[0]), seconds * each, {**order, "kits": some}) for some in of]

    @property
    def is_rate(self) -> bool:
        """How often it was done is counted, of each make in a window of its own."""
        return self.use in ("pair", "floor")

    def key(self, kit: str) -> str:
        """The name of the measurement that this make is in."""
        return f"{self.name}, {kit}" if self.is_rate else self.name

    def values(self, results: Results, variant: Variant, kit: str) -> list[float]:
        """One a repeat: how often, or nanoseconds. None where the make was not measured."""
        what = "done" if self.is_rate else kit
        outcomes = results.get((variant, self.key(kit)), [])
        return [value for x in outcomes if (value := x.get(what)) is not None]


SECTION = Load("uncontended", "section")
NOTIFY = Load("uncontended", "notify", faster=(2, 2), of_empty=1.3)
WAIT_0 = Load("uncontended", "wait(0)", faster=(2, 2))
UNCONTENDED = (NOTIFY, WAIT_0, *(Load("uncontended", name) for name in PRIMITIVES[1:]))
PAIRS = (Load("pair", "condition", faster=(1.05, 1.15)), *(Load("pair", x) for x in PRIMITIVES[1:]))
CROWDS = (Load("crowd", "condition", faster=(1.2, 2)), *(Load("crowd", x) for x in PRIMITIVES[1:]))
BESIDE = (
    Load("pair", "condition", 1, of_alone=0.25),
    *(Load("pair", name, 1) for name in PRIMITIVES[1:]),
    *(Load("crowd", name, 1) for name in PRIMITIVES),
)
MADE = (*UNCONTENDED, *PAIRS, *CROWDS, *BESIDE)  # by each kit
FLOOR_LOADS = tuple(Load("floor", name, cpu) for name in FLOORS for cpu in (0, 1))
LOADS = (*MADE, SECTION, *FLOOR_LOADS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope bench condition`."""
    windows.add_arguments(parser, REPEATS, seconds=0.2, placement="one")
    parser.add_argument(
        "--only", metavar="TEXT", action="append", default=[],
        help="only uses whose name has it (and those they are compared with); again for more",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Measure and tell; 1 when a bound was missed. Raises UsageError and RecordingError."""
    windows.shorten(args)
    variants = [
        Variant(v.interpreter, v.policy, v.grace_us, watched=True) for v in harness.variants(args)
    ]
    loads = chosen(args.only)
    folder = str(Path(gilscope.__file__).parents[1])
    turns = [
        (variant, window)
        for variant in variants
        for window in measured(loads, kits(variant, folder), args.seconds)
    ]
    results = windows.measure(args, turns, _PROGRAM, [folder])
    return publish(tell(args, variants, loads, results), args)


def chosen(texts: Sequence[str]) -> list[Load]:
    """The uses whose names have one of the texts, and what those are compared with; all for none.

    Raises UsageError when none has.
    """
    names = {x.name for x in LOADS if not texts or any(text in x.name for text in texts)}
    if not names:
        raise UsageError(f"no use has {texts[0]} in its name: {', '.join(x.name for x in LOADS)}")
    names |= {x.alone.name for x in LOADS if x.name in names and x.is_shared}
    return [load for load in LOADS if load.name in names]


def kits(variant: Variant, folder: str) -> list[str]:
    """Those that can be had in the variant. Raises RecordingError."""
    with Worker(variant.command(_PROGRAM, folder)) as worker:
        found = json.loads(worker.first)["kits"]
    return [kit for kit in KITS if kit in found]


def measured(loads: Sequence[Load], found: Sequence[str], seconds: float) -> list[Window]:
    """The measurements for these uses in a variant that has these kits."""
    turns: list[Window] = []
    for load in loads:
        kits = [EMPTY] if load.use == "floor" else list(found)
        if load == SECTION:
            kits = ["atomic"] if "atomic" in found else []
        if load in (NOTIFY, WAIT_0, SECTION) or load.has_chain:
            kits.append(EMPTY)
        turns += load.windows(kits, seconds)
    return turns


def tell(
    args: argparse.Namespace, variants: Sequence[Variant], loads: Sequence[Load], results: Results
) -> Report:
    """A row for each use and policy."""
    report = Report(
        benchmark="condition",
        title="Conditions and what rests on them",
        command=harness.command_line("condition", args),
        machine=harness.machine(),
        repeats=args.repeats,
        words=("interpreter", "use", "policy"),
        columns=COLUMNS,
    )
    for interpreter in dict.fromkeys(variant.interpreter for variant in variants):
        for load in loads:
            for variant in variants:
                if variant.interpreter == interpreter:
                    told = figures(results, variant, load, args.seconds)
                    report.rows.append(Row((interpreter.name, load.name, variant.name), told))
    report.chart = chart.dots(report, ("native faster", "atomic faster"))
    report.notes = [
        "Uses that never wait are timed by the thread's processor time, in blocks of 200, makes "
        "in turn; given is the tenth percentile. "
        "Their floor is a class in C with the same methods that do nothing, the loop included "
        "everywhere. Two threads: round trips a second. 100 waiters: from waking them until the "
        "last has run, the median; the floor of a Condition is a chain of plain locks, by which "
        "each thread wakes the next and does nothing else. Faster: than stock. Of alone: native's "
        "rate beside the computing thread, of its rate without. Over floor: native's time of the "
        "floor's, and an atomic section's nanoseconds beyond those of a `with` on the empty class, "
        "at the machine's speed in the repeat in which that was fastest.",
        f"Windows of {args.seconds:g} s, of crowds for each make. {windows.placed(args)}",
    ]
    return report


def figures(results: Results, variant: Variant, load: Load, seconds: float) -> dict[str, Figure]:
    """The row's figures: of each kit, and compared."""
    values = {kit: load.values(results, variant, kit) for kit in (*KITS, EMPTY)}
    told: dict[str, Figure] = {}
    for kit, some in values.items():
        if some:
            column = "floor" if kit == EMPTY else kit
            told[column] = (
                Figure([value / seconds for value in some], "/s")
                if load.is_rate
                else Figure(some, "ns")
            )
    for kit in ("native", "atomic"):
        if values[kit] and values["stock"]:
            ratios = _ratios(values[kit], values["stock"])
            faster = ratios if load.is_rate else [1 / ratio for ratio in ratios]
            least = load.faster[variant.interpreter.plus] if load.faster else None
            told[f"{kit} faster"] = Figure(faster, "x", least if kit == "native" else None)
    if (load in (NOTIFY, WAIT_0) or load.has_chain) and values[EMPTY]:
        over = _ratios(values["native"], values[EMPTY])
        told["over floor"] = Figure(over, "x", at_most=load.of_empty)
    if load == SECTION and values["atomic"]:
        # A shared machine may run at half its speed for a while, and both of a repeat with it.
        more = [
            (ratio - 1) * min(values[EMPTY]) for ratio in _ratios(values["atomic"], values[EMPTY])
        ]
        told["over floor"] = Figure(more, " ns", at_most=10)
    if load.is_shared:
        shares = _ratios(values["native"], load.alone.values(results, variant, "native"))
        least = load.of_alone if variant.policy != CLASSIC else None
        told["native, of alone"] = Figure(shares, at_least=least)
    return told


def _ratios(own: Sequence[float], other: Sequence[float]) -> list[float]:
    """Repeat by repeat."""
    return [a / b for a, b in zip(own, other, strict=True) if b]
