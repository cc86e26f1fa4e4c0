"""`gilscope top` from outside against exact counters: are its shares right, in the same windows?

    python tests/soak/top.py [--seconds S] [--windows N] [--python VERSION]… [--page FILE.md]

Each example runs on each interpreter under `gilscope record --counters`. Meanwhile one source reads
the process from outside as `gilscope top PID` does, and another the counters. One window of S
seconds is held against bounds, and N of two seconds against the error that top states itself.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import interpreters  # noqa: E402

from gilscope.errors import GilscopeError  # noqa: E402
from gilscope.live.exact import ExactSource  # noqa: E402
from gilscope.live.sampler import SampledSource  # noqa: E402
from gilscope.live.window import Picture  # noqa: E402
from gilscope.recorder.notes import RINGS  # noqa: E402
from gilscope.recorder.running import find  # noqa: E402

EXAMPLES = ("echo_server", "asyncio_to_thread", "hash_pool", "process_pool", "queue_pipeline")
BOUNDS = {"held": 0.03, "contended": 0.05, "waiting": 0.05}
SHORT_S = 2.0
SETTLE_S = 1.5
PATIENCE_S = 60
It = TypeVar("It")


@dataclass
class Differences:
    """The largest ones of a window, by measure, and what top said of itself."""

    stated: float | None
    late_ms: float
    found: dict[str, float] = field(default_factory=lambda: dict.fromkeys(BOUNDS, 0.0))

    def see(self, measure: str, sampled: float | None, exact: float | None) -> None:
        """What is not known has no difference."""
        if sampled is not None and exact is not None:
            self.found[measure] = max(self.found[measure], abs(sampled - exact))

    @property
    def as_stated(self) -> bool:
        """Top states the error of its GILs' shares, or that it is not known."""
        return self.stated is None or self.of_gils <= self.stated

    @property
    def of_gils(self) -> float:
        """The larger one of a GIL's two shares."""
        return max(self.found["held"], self.found["contended"])

    @property
    def within(self) -> bool:
        """The bounds are for windows whose error is known."""
        return self.stated is None or all(self.found[name] <= BOUNDS[name] for name in BOUNDS)


def differences(sampled: Picture, exact: Picture) -> Differences:
    """Of processes, GILs and threads that both have."""
    seen = Differences(sampled.error, 1e3 * (sampled.lateness_s or 0))
    truth = {process.pid: process for process in exact.processes}
    for process in sampled.processes:
        if not (its := truth.get(process.pid)):
            continue
        for one, other in zip(process.gils, its.gils, strict=False):
            seen.see("held", one.held, other.held)
            seen.see("contended", one.contended, other.contended)
        threads = {thread.tid: thread for thread in its.threads}
        for thread in process.threads:
            if thread.tid in threads:
                seen.see("waiting", thread.waiting, threads[thread.tid].waiting)
    return seen


@contextmanager
def both(python: Path, example: str, seconds: float) -> Iterator[tuple[SampledSource, ExactSource]]:
    """The two sources of one run of an example."""
    program = [str(python), str(ROOT / "examples" / f"{example}.py"), "--seconds", f"{seconds:g}"]
    command = [sys.executable, "-m", "gilscope", "record", "--counters", "--quiet", "--", *program]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        rings = until(lambda: find(process.pid))
        exact = ExactSource(rings / RINGS)
        pid = until(lambda: next((p.pid for p in exact.picture().processes if p.threads), None))
        sampled = until(lambda: _sampled(pid))
        yield sampled, exact
        sampled.close()
        exact.close()
    finally:  # the recorder and whom the example started; its rings are removed
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _sampled(pid: int) -> SampledSource | None:
    with suppress(GilscopeError):  # it has only just begun
        return SampledSource(pid)
    return None


def until(look: Callable[[], It | None]) -> It:
    """What it sees at last."""
    deadline = time.monotonic() + PATIENCE_S
    while (seen := look()) is None:
        if time.monotonic() > deadline:
            raise SystemExit("the example has not begun")
        time.sleep(0.05)
    return seen


def windows(
    python: Path, example: str, seconds: float, short: int
) -> tuple[Differences, list[Differences]]:
    """Of the long window and of the short ones."""
    whole_s = seconds + short * SHORT_S + 2 * SETTLE_S
    with both(python, example, 2 * whole_s) as (sampled, exact):  # hash_pool has two halves
        time.sleep(SETTLE_S)
        found = []
        sampled.picture(), exact.picture()
        for length in [seconds, *[SHORT_S] * short]:
            time.sleep(length)
            found.append(differences(sampled.picture(), exact.picture()))
    return found[0], found[1:]


def page(rows: Sequence[str], good: int, all_of: int, within: int, seconds: float) -> str:
    """Markdown."""
    bounds = ", ".join(f"{name} {bound:g}" for name, bound in BOUNDS.items())
    return "\n".join(
        [
            "# Top from outside, against counters",
            "",
            f"`make soak-top`, {time.strftime('%Y-%m-%d')}: each example on each interpreter, one "
            f"window of {seconds:g} s of the",
            f"same run and some of {SHORT_S:g} s. The largest difference of any process, GIL or "
            f"thread; bounds: {bounds}.",
            f"Within them, or said to be not known: {good} of {len(rows)} windows. The truth is "
            f"within the error that top states in {within} of {all_of}",
            "short windows.",
            "",
            "| interpreter | example | held | contended | a thread's waiting | stated | late |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    """Exit code 1: a bound was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--windows", type=int, default=7, help="short ones, of each run")
    parser.add_argument("--python", action="append", choices=interpreters.names())
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    rows, good, short = [], 0, list[Differences]()
    for name in args.python or interpreters.names():
        for example in EXAMPLES:
            its, more = windows(interpreters.path(name), example, args.seconds, args.windows)
            good += its.within
            short += more
            shares = " | ".join(f"{its.found[measure]:.3f}" for measure in BOUNDS)
            known = "not known" if its.stated is None else f"{its.stated:.3f}"
            rows.append(f"| {name} | {example} | {shares} | {known} | {its.late_ms:.2f} ms |")
            print(rows[-1], *(f"{each.of_gils:.3f} of {each.stated}" for each in more), flush=True)
    within = sum(each.as_stated for each in short)
    text = page(rows, good, len(short), within, args.seconds)
    if args.page:
        args.page.write_text(text)
    print("\n".join(text.splitlines()[2:6]))
    return good < len(rows) or within < 0.95 * len(short)


if __name__ == "__main__":
    sys.exit(main())
