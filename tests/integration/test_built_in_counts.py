"""What Python Plus's hooks cost, in instructions: counted by callgrind, the same on every run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import interpreters

# One turn of `calls` releases the GIL and takes it again; one of `computes` does neither.
TURNS = """
import os, sys
turns, what = int(sys.argv[1]), sys.argv[2]
fd = os.open("/dev/null", os.O_WRONLY)
if what == "calls":
    for _ in range(turns):
        os.write(fd, b"")
else:
    x = 0
    for i in range(turns):
        x += i * i % 7
"""
FEW, MANY = 2_000, 6_000
OPTIONS = ("-S", "-s")  # not -I: the seed of hashes is in the environment


def instructions(python: Path, turns: int, what: str, feed: str | None, folder: Path) -> int:
    """Of a whole run; recorded by that feed, or not."""
    program = [str(python), *OPTIONS, "-c", TURNS, str(turns), what]
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *program]
    variables = {**os.environ, "PYTHONHASHSEED": "0"}
    if feed is not None:
        variables["GILSCOPE_FEED"] = feed
        own = [sys.executable, "-m", "gilscope", "record", "--no-summary"]
        command = [*own, "-o", str(folder / "counted.pftrace"), "--", *command]
    done = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=240, check=True
    )
    (counted,) = re.findall(r"Collected : (\d+)", done.stderr)
    return int(counted)


def a_turn(python: Path, what: str, folder: Path, feed: str | None = None) -> float:
    counts = [instructions(python, turns, what, feed, folder) for turns in (FEW, MANY)]
    return (counts[1] - counts[0]) / (MANY - FEW)


@pytest.fixture(scope="module")
def plus() -> Path:
    return interpreters.in_build_tree("")


@pytest.fixture(scope="module")
def without(plus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same interpreter with every hook left out: what the patches touch is compiled anew."""
    tree = tmp_path_factory.mktemp("without") / "build"
    shutil.copytree(plus.parent, tree, symlinks=True)
    probe = plus.parent.parent / "probe"
    subprocess.run(
        [
            "make",
            "-s",
            *("-o", "Programs/_freeze_module", "-o", "_bootstrap_python"),
            *("-W", str(probe / "switches.h")),
            f"GILSCOPE_PROBE={probe}",
            "GILSCOPE_FLAGS=-DGILSCOPE_PERFORMANCE_TESTING=1",
            "python",
        ],
        cwd=tree,
        check=True,
        timeout=270,
        capture_output=True,
    )
    return tree / "python"


def test_off_the_hooks_cost_a_dozen_instructions_a_turn(
    plus: Path, without: Path, tmp_path: Path
) -> None:
    more = a_turn(plus, "calls", tmp_path) - a_turn(without, "calls", tmp_path)
    print(f"{more:g} instructions more a release and acquire")
    assert 0 < more <= 12


def test_off_a_loop_that_computes_costs_the_same(plus: Path, without: Path, tmp_path: Path) -> None:
    assert a_turn(plus, "computes", tmp_path) == a_turn(without, "computes", tmp_path)


def test_on_an_event_costs_less_than_in_the_stock_feed(plus: Path, tmp_path: Path) -> None:
    """Both with the preloaded probe in the process, which has nothing to do beside the other."""
    off = a_turn(plus, "calls", tmp_path)
    on = {feed: a_turn(plus, "calls", tmp_path, feed) - off for feed in ("built-in", "interposed")}
    print(f"instructions more a turn of two events, recorded: {on}")
    assert 0 < on["built-in"] < on["interposed"]
