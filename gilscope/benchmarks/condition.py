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
from dataclasses import dataclass
from pathlib import Path

import gilscope
from gilscope.benchmarks import chart, harness, windows
from gilscope.benchmarks.harness import CLASSIC, Results, Variant, Worker, ratios
from gilscope.benchmarks.report import Figure, Report, Row, publish
from gilscope.benchmarks.windows import Window

HELP = "native, stock and atomic Condition, Event, Queue, Barrier and Semaphore, and their floors"

REPEATS = 10
KITS = ("stock", "native", "atomic")
PRIMITIVES = ("condition", "event", "queue", "barrier", "semaphore")
FLOORS = ("futex", "sem_t", "mutex + cond")
EMPTY = "empty"
_PROGRAM = "primitives.py"
_BLOCKS_S = 0.05  # of uses that never wait


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

    def window(self, kit: str, seconds: float) -> Window:
        """Its measurement for one make."""
        order: dict[str, float | str] = {"use": self.use, "what": self.what}
        order |= {"kit": kit, "cpu": self.cpu}
        return Window(self.key(kit), _BLOCKS_S if self.use == "uncontended" else seconds, order)

    def key(self, kit: str) -> str:
        """The name of that measurement."""
        return f"{self.name}, {kit}"


SECTION = Load("uncontended", "section")
EMPTY_SECTION = Load("uncontended", "empty section")
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope bench condition`."""
    windows.add_arguments(parser, REPEATS, seconds=0.2, placement="one")


def run(args: argparse.Namespace) -> int:
    """Measure and tell; 1 when a bound was missed. Raises UsageError and RecordingError."""
    windows.shorten(args)
    variants = [
        Variant(v.interpreter, v.policy, v.grace_us, watched=True) for v in harness.variants(args)
    ]
    folder = str(Path(gilscope.__file__).parents[1])
    turns = [
        (variant, window)
        for variant in variants
        for window in measured(kits(variant, folder), args.seconds)
    ]
    results = windows.measure(args, turns, _PROGRAM, [folder])
    return publish(tell(args, variants, results), args)


def kits(variant: Variant, folder: str) -> list[str]:
    """Those that can be had in the variant. Raises RecordingError."""
    with Worker(variant.command(_PROGRAM, folder)) as worker:
        found = json.loads(worker.first)["kits"]
    return [kit for kit in KITS if kit in found]


def measured(found: Sequence[str], seconds: float) -> list[Window]:
    """All measurements in a variant that has these kits."""
    made = [load.window(kit, seconds) for load in MADE for kit in found]
    empty = [load.window(EMPTY, seconds) for load in (NOTIFY, WAIT_0, EMPTY_SECTION)]
    section = [SECTION.window("atomic", seconds)] if "atomic" in found else []
    return [*made, *empty, *section, *(load.window(EMPTY, seconds) for load in FLOOR_LOADS)]


def tell(args: argparse.Namespace, variants: Sequence[Variant], results: Results) -> Report:
    """A row for each use and policy."""
    report = Report(
        benchmark="condition",
        title="Conditions and what rests on them",
        command=harness.command_line("condition", args),
        machine=harness.machine(),
        repeats=args.repeats,
        words=("interpreter", "use", "policy"),
        columns=(
            *KITS,
            "floor",
            "native faster",
            "atomic faster",
            "native, of alone",
            "over floor",
        ),
    )
    for interpreter in dict.fromkeys(variant.interpreter for variant in variants):
        for load in (*MADE, SECTION, *FLOOR_LOADS):
            for variant in variants:
                if variant.interpreter == interpreter:
                    told = figures(results, variant, load, args.seconds)
                    report.rows.append(Row((interpreter.name, load.name, variant.name), told))
    report.chart = chart.dots(report, ("native faster", "atomic faster"))
    report.notes = [
        "Uses that never wait are timed by the thread's processor time, the best block of 1,000; "
        "their floor is a class in C with the same methods that do nothing, the loop included "
        "everywhere. Two threads: round trips a second. 100 waiters: from waking them until the "
        "last has run. Faster: than stock. Of alone: native's rate beside the computing thread, "
        "of its rate without. Over floor: native's time of the empty class's, and an atomic "
        "section's nanoseconds beyond those of a `with` on the empty class.",
        f"Windows of {args.seconds:g} s. {windows.placed(args)}",
    ]
    return report


def figures(results: Results, variant: Variant, load: Load, seconds: float) -> dict[str, Figure]:
    """The row's figures: of each kit, and compared."""
    if load == SECTION:
        return _section(results, variant)
    if load.use == "floor":
        return {"floor": _measure(results, variant, load, EMPTY, seconds)}
    told = {
        kit: _measure(results, variant, load, kit, seconds)
        for kit in KITS
        if (variant, load.key(kit)) in results
    }
    for kit in ("native", "atomic"):
        if kit in told and "stock" in told:
            own, stock = results[variant, load.key(kit)], results[variant, load.key("stock")]
            what = _WHAT[load.use]
            faster = ratios(own, stock, what) if what == "done" else ratios(stock, own, what)
            least = load.faster[variant.interpreter.plus] if load.faster else None
            told[f"{kit} faster"] = Figure(faster, "x", least if kit == "native" else None)
    if load in (NOTIFY, WAIT_0):
        empty = results[variant, load.key(EMPTY)]
        told["floor"] = _measure(results, variant, load, EMPTY, seconds)
        over = ratios(results[variant, load.key("native")], empty, "turn_ns")
        told["over floor"] = Figure(over, "x", at_most=load.of_empty)
    if load.cpu and load.use == "pair":
        alone = results[variant, Load(load.use, load.what).key("native")]
        shares = ratios(results[variant, load.key("native")], alone, "done")
        least = load.of_alone if variant.policy != CLASSIC else None
        told["of alone"] = Figure(shares, at_least=least)
    return told


_WHAT = {"uncontended": "turn_ns", "pair": "done", "crowd": "p50_ns", "floor": "done"}


def _measure(results: Results, variant: Variant, load: Load, kit: str, seconds: float) -> Figure:
    what = _WHAT[load.use]
    values = [value for x in results[variant, load.key(kit)] if (value := x[what]) is not None]
    if what == "done":
        return Figure([value / seconds for value in values], "/s")
    return Figure(values, "ns")


def _section(results: Results, variant: Variant) -> dict[str, Figure]:
    if (variant, SECTION.key("atomic")) not in results:
        return {}
    floor = _measure(results, variant, EMPTY_SECTION, EMPTY, 1)
    atomic = _measure(results, variant, SECTION, "atomic", 1)
    more = [a - b for a, b in zip(atomic.values, floor.values, strict=True)]
    return {"atomic": atomic, "floor": floor, "over floor": Figure(more, " ns", at_most=10)}
