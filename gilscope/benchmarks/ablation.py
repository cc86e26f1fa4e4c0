"""What each rule of io-priority wins: `gilscope bench echo --without RULE`.

A pair is one repeat of all loads with the rule and without it, from one build of the probe
(probe/rules.h). Pairs are kept in a file as they are made, so that a measurement goes on where it
was left off; a change of the policy's sources begins anew. A rule may go where it is shown, in
every row, that its absence costs at most 5 %.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gilscope.benchmarks import harness, probes, windows
from gilscope.benchmarks.harness import IO_PRIORITY, Interpreter, Outcome, Variant, estimate
from gilscope.benchmarks.report import Figure, Report, Row
from gilscope.benchmarks.windows import Window
from gilscope.errors import RecordingError, UsageError
from gilscope.interpreter.places import builds

ENOUGH = 24  # pairs
# After so many it is decided that a rule wins where in one row all of them say so: were it not so
# there, that would happen in one of 2 ** 10 rows, and there are less than 30.
SURE = 10
DEAR = 0.05  # what a rule has to win somewhere

_PROBE = Path(__file__).parents[1] / "probe"
_RULE = re.compile(r'X\(\w+, "(\w+)", (\d+), "([^"]+)"\)')
# A pair's figures: by load and column, without the rule, as a share of what it is with the rule;
# of a latency the other way round. Below 1 the rule wins something.
Pair = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Rule:
    """One that can be left out."""

    name: str
    number: int  # in gil_condvar.h
    without: str  # what happens then


@cache
def rules() -> dict[str, Rule]:
    """By name, as probe/rules.h has them."""
    text = re.sub(r"\s*\\\n\s*", " ", (_PROBE / "rules.h").read_text(encoding="utf-8"))
    found = [Rule(name, int(number), without) for name, number, without in _RULE.findall(text)]
    return {rule.name: rule for rule in found}


@dataclass(frozen=True)
class Ablated(Variant):
    """The policy from a build in which rules can be left out, and the one that is."""

    library: str = ""  # to be preloaded into an interpreter that has no probe
    without: str = ""

    def command(self, program: str, *arguments: str) -> list[str]:
        """Without `gilscope run`, which would preload the library that everybody gets."""
        words = [f"GILSCOPE_POLICY={IO_PRIORITY}", f"GILSCOPE_WITHOUT={self.without}"]
        if not self.interpreter.plus:
            words.append(f"LD_PRELOAD={self.library}")
        path = str(harness.PROGRAMS / program)
        return ["env", *words, self.interpreter.path, path, *arguments]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that belong to --without."""
    parser.add_argument(
        "--without", metavar="RULE", action="append", default=[],
        help="instead, measure what a rule of the policy wins, against the policy without it "
        "(again for more, or all); Python Plus has to be of the variant rules",
    )  # fmt: skip
    parser.add_argument(
        "--state", metavar="FILE", type=Path,
        help="with --without: where pairs are kept, to go on from (default: among gilscope's own "
        "caches)",
    )  # fmt: skip
    parser.add_argument(
        "--stop-after", metavar="S", type=float, default=float("inf"),
        help="with --without: begin no pair later than that; the next run goes on",
    )  # fmt: skip


class State:
    """The pairs by interpreter and rule, in a file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path or builds() / "ablation.json"
        self.key = _policy_key()
        self.pairs: dict[str, dict[str, list[Pair]]] = {}
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            if kept["policy"] == self.key:
                self.pairs = kept["pairs"]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{self.path} is no state of this benchmark; remove it") from error

    def of(self, interpreter: Interpreter, rule: str) -> list[Pair]:
        """Its pairs so far; what is added here stays."""
        return self.pairs.setdefault(interpreter.name, {}).setdefault(rule, [])

    def write(self) -> None:
        """Leave it in the file, whole. Raises RecordingError."""
        text = json.dumps({"policy": self.key, "pairs": self.pairs})
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(text, encoding="utf-8")
            beside.replace(self.path)
        except OSError as error:
            raise RecordingError(f"{self.path}: cannot be written: {error.strerror}") from error


def _policy_key() -> str:
    """Of the sources that make the policy what it is: what was measured with others is past."""
    digest = hashlib.sha256()
    names = ("gil_*.[ch]", "rules.h", "request.[ch]", "park.[ch]", "slice.[ch]", "schedule.[ch]")
    for path in sorted(path for name in names for path in _PROBE.glob(name)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def measure(
    args: argparse.Namespace, interpreters: Sequence[Interpreter], loads: Mapping[str, Window]
) -> Report:
    """Add pairs until each rule has enough or the time is up, and tell what is there.

    Raises UsageError, RecordingError and InstallationError.
    """
    chosen = list(rules()) if "all" in args.without else args.without
    for name in chosen:
        if name not in rules():
            raise UsageError(f"no rule {name}; rules: {', '.join(rules())}")
    state = State(args.state)
    for interpreter in interpreters:
        if interpreter.plus:
            _check_build(interpreter)
    deadline = time.monotonic() + args.stop_after
    for interpreter, name in _fewest_first(state, interpreters, chosen, args.repeats):
        if time.monotonic() >= deadline:
            break
        pairs = state.of(interpreter, name)
        pairs.append(_pair(args, interpreter, name, loads, len(pairs)))
        state.write()
    return tell(args, state, interpreters, chosen)


def _fewest_first(
    state: State, interpreters: Sequence[Interpreter], names: Sequence[str], enough: int
) -> Iterator[tuple[Interpreter, str]]:
    """Whose pair is to be made next, for as long as one has not enough of them."""
    rules = [(interpreter, name) for interpreter in interpreters for name in names]
    while todo := [
        rule for rule in rules if len(state.of(*rule)) < enough and not surely_wins(state.of(*rule))
    ]:
        yield min(todo, key=lambda rule: len(state.of(*rule)))


def _check_build(interpreter: Interpreter) -> None:
    """A Python Plus whose rules can be left out refuses what is none. Raises UsageError."""
    done = subprocess.run(
        [interpreter.path, "-c", ""], check=False, capture_output=True,
        env={**os.environ, "GILSCOPE_POLICY": IO_PRIORITY, "GILSCOPE_WITHOUT": "no such rule"},
    )  # fmt: skip
    if done.returncode == 0:
        raise UsageError(
            f"{interpreter.name} was built without switches for rules: "
            "gilscope interpreter build --variant rules"
        )


def _pair(
    args: argparse.Namespace,
    interpreter: Interpreter,
    name: str,
    loads: Mapping[str, Window],
    number: int,
) -> Pair:
    """The order is another one in each: what is measured once has none of its own."""
    library = str(probes.built(probes.RULES))
    with_it, without = (
        Ablated(interpreter, IO_PRIORITY, library=library, without=x) for x in ("", name)
    )
    once = argparse.Namespace(**{**vars(args), "repeats": 1})
    dice = random.Random(number)
    turns = [
        (variant, window)
        for window in dice.sample(list(loads.values()), len(loads))
        for variant in dice.sample([with_it, without], 2)
    ]
    results = windows.measure(once, turns)
    found = {load: _shares(results[without, load][0], results[with_it, load][0]) for load in loads}
    return {load: shares for load, shares in found.items() if shares}


def _shares(without: Outcome, with_it: Outcome) -> dict[str, float]:
    """What is left of a load's figures without the rule."""
    pairs = {
        "a second": (without["done"], with_it["done"]),
        "p99": (with_it["p99_ns"], without["p99_ns"]),
        "CPU work": (without["computed"], with_it["computed"]),
    }
    return {column: a / b for column, (a, b) in pairs.items() if a is not None and b}


# ---- what was found ---------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What is left of one row without a rule: the row that its absence may cost most."""

    row: str
    shares: list[float]
    verdict: str


def _rows(pairs: Sequence[Pair]) -> dict[str, list[float]]:
    rows: dict[str, list[float]] = {}
    for pair in pairs:
        for load, shares in pair.items():
            for column, share in shares.items():
                rows.setdefault(f"{load}: {column}", []).append(share)
    return rows


def surely_wins(pairs: Sequence[Pair]) -> bool:
    """Whether the first pairs decide it, so that no more of them are made."""
    return any(
        len(shares) >= SURE and max(shares[:SURE]) < 1 - DEAR for shares in _rows(pairs).values()
    )


def judge(pairs: Sequence[Pair]) -> Finding:
    """Of at least one pair."""
    rows = _rows(pairs)
    worst = min(rows, key=lambda row: estimate(rows[row]).low)
    dear = [row for row, shares in rows.items() if estimate(shares).high < 1 - DEAR]
    if surely_wins(pairs):
        verdict = "wins"
    elif len(pairs) < ENOUGH:
        verdict = f"not known: {ENOUGH - len(pairs)} more"
    elif estimate(rows[worst]).low >= 1 - DEAR:
        verdict = "may go"
    else:
        verdict = "wins" if dear else "stays: not shown to win nothing"
    return Finding(worst, rows[worst], verdict)


def tell(
    args: argparse.Namespace,
    state: State,
    interpreters: Sequence[Interpreter],
    names: Sequence[str],
) -> Report:
    """A row for each rule that has a pair."""
    report = Report(
        benchmark="echo",
        title="What the rules of io-priority win",
        command=" ".join(
            [harness.command_line("echo", args), *(f"--without {name}" for name in args.without)]
        ),
        machine=harness.machine(),
        repeats=max(len(state.of(x, name)) for x in interpreters for name in names),
        words=("interpreter", "rule", "pairs", "verdict", "the row that it may cost most"),
        columns=("left without it",),
    )
    for interpreter in interpreters:
        for name in names:
            if pairs := state.of(interpreter, name):
                found = judge(pairs)
                words = (interpreter.name, name, str(len(pairs)), found.verdict, found.row)
                report.rows.append(Row(words, {"left without it": Figure(found.shares)}))
    report.notes = [
        "Left without it: requests and CPU work without the rule, of those with it; of a p99 the "
        "other way round. Below 1 the rule wins. The row is the one whose interval reaches lowest "
        f"of all loads of `gilscope bench echo`. A rule may go where that is at least {1 - DEAR:g} "
        f"after {ENOUGH} pairs; it wins, without more pairs, where the first {SURE} all say so in "
        "one row. Rules, as probe/rules.h has them, and what happens without:",
        *(f"{x.name} (rule {x.number}): {x.without}." for x in rules().values() if x.name in names),
        windows.placed(args),
    ]
    return report
