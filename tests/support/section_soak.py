"""No waiter is forgotten beside atomic sections: many runs of section_program.py, with delays in
every window in which another thread could come between.

    cd tests && python -m support.section_soak [--runs 200] [--page FILE]

A run fails where a wait for the GIL took longer than three switch intervals and the longest
section, delays that were put in and the kernel's share taken off. Exits with 1 where one did.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support import interpreters

from gilscope.benchmarks import probes

PROGRAM = Path(__file__).parent / "section_program.py"
KINDS = ("sleep", "pipe", "refused", "handlers", "forks")
POLICIES = ("io-priority", "classic")
PYTHONS = ("3.13", "3.11")
SECONDS = 1.0

WINDOW_US = 300  # at the most
WINDOWS = 8  # that may lie in one wait
SECTION_MS = 1  # the longest
BOUND_MS = 3 * 5 + SECTION_MS + WINDOWS * WINDOW_US / 1000


def run(python: str, kind: str, policy: str, seconds: float = SECONDS) -> tuple[float, int]:
    """The longest wait (ms) and the number of waits. Raises CalledProcessError, TimeoutExpired."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [interpreters.path(python), PROGRAM, kind, str(seconds)],
        env={
            **os.environ,
            "PYTHONPATH": str(root),
            "LD_PRELOAD": str(probes.built(probes.WINDOWS)),
            "GILSCOPE_POLICY": policy,
            "GILSCOPE_TEST_WINDOWS_US": str(WINDOW_US),
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=60 + 10 * seconds,
        check=True,
    )
    longest, waits = map(int, done.stdout.split())
    return longest / 1e6, waits


def cases() -> Iterator[tuple[str, str, str]]:
    """Python, kind and policy, over and over."""
    while True:
        for kind in KINDS:
            for python in PYTHONS:
                for policy in POLICIES:
                    yield python, kind, policy


def main() -> int:
    """Run them; print each bad one and what was seen of each kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--page", type=Path, help="write the table there")
    args = parser.parse_args()
    seen: dict[tuple[str, str], list[tuple[float, int]]] = {}
    bad = 0
    for _, (python, kind, policy) in zip(range(args.runs), cases(), strict=False):
        longest, waits = run(python, kind, policy)
        seen.setdefault((kind, policy), []).append((longest, waits))
        if longest > BOUND_MS:
            bad += 1
            print(f"{python} {kind} {policy}: a wait of {longest:.1f} ms", flush=True)
    lines = ["| program | policy | runs | waits | longest |", "|---|---|---|---|---|"]
    for (kind, policy), runs in sorted(seen.items()):
        waits, longest = sum(n for _, n in runs), max(length for length, _ in runs)
        lines.append(f"| {kind} | {policy} | {len(runs)} | {waits:,} | {longest:.1f} ms |")
    text = "\n".join(lines)
    print(f"{text}\n{bad} of {args.runs} runs were over {BOUND_MS:g} ms")
    if args.page:
        args.page.write_text(
            "# Waits beside atomic sections\n\n    make soak-sections\n\n"
            f"{args.runs} runs of {SECONDS:g} s, on Python {' and '.join(PYTHONS)}, with delays "
            f"of up to {WINDOW_US} µs in every window of the probe. A wait counts without the time "
            "for which the kernel kept either thread from a processor. The bound is three switch "
            f"intervals, the longest section and {WINDOWS} delays: {BOUND_MS:g} ms; {bad} runs "
            f"were over it.\n\n{text}\n",
            encoding="utf-8",
        )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
