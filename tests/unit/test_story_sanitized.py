"""story.c and the folds under sanitizers, with damaged events too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.stories import rolled_story

from gilscope.trace.model import Trace

SOURCES = (
    "tests/c/fold_story.c",
    "gilscope/trace/story.c",
    "gilscope/analysis/blame.c",
    "gilscope/analysis/distribution.c",
    "gilscope/analysis/stretches.c",
)
ROUNDS = 3_000


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(__file__).parents[2]
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    target = tmp_path_factory.mktemp("c") / "fold_story"
    subprocess.run(
        [
            *(compiler, "-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"),
            *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
            *(str(root / source) for source in SOURCES),
            *("-o", str(target)),
        ],
        check=True,
    )
    return target


@pytest.mark.parametrize("shape", [((3, 1),), ((4, 2), (5, 1))])
def test_folds_are_clean_and_agree(
    program: Path, tmp_path: Path, shape: tuple[tuple[int, int], ...]
) -> None:
    source = rolled_story(7, 700, shape, rare=15)
    metadata = source.metadata
    tables = [t.process for t in metadata.threads] + [g.process for g in metadata.gils]
    sizes = [len(metadata.processes), len(metadata.threads), len(metadata.gils), len(source.events)]
    path = tmp_path / "story"
    path.write_bytes(np.array(sizes + tables, np.uint32).tobytes() + source.events.tobytes())
    done = subprocess.run(
        [str(program), str(path), str(ROUNDS)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    sums, refused = done.stdout.splitlines()
    trace = Trace.from_source(source)
    held, waiting, n_blame = map(int, sums.split())
    assert held == int(trace.thread_stats["held_ns"].sum())
    assert waiting == int(trace.thread_stats["waiting_ns"].sum())
    assert n_blame > 0
    assert ROUNDS > int(refused.split()[1]) > ROUNDS // 4
