"""Colours are a terminal's; NO_COLOR and FORCE_COLOR say otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

COLOR = re.compile(r"\x1b\[[0-9;]*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m")
TRACE = Path(__file__).parents[1] / "format" / "old" / "format-4-convoy.pftrace.gz"


@pytest.mark.parametrize(
    ("variables", "colored"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_in_a_pipe(variables: dict[str, str], colored: bool) -> None:
    others = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    done = subprocess.run(
        [sys.executable, "-m", "gilscope", "summary", TRACE],
        env={**others, "TERM": "xterm", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert bool(COLOR.search(done.stdout)) == colored
