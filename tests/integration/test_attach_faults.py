"""A few of each of support/attach_faults.py; tests/soak/attach_faults.py does it by the hundred."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from support import interpreters
from support.attach_faults import FAULTS, Fault, rings_in, rounds

TIMES = 5
SOME = ["3.9", "3.13", interpreters.PLUS]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
@pytest.mark.parametrize("python", SOME)
def test_nobody_else_is_harmed(fault: Fault, python: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    with rings_in(tmp_path):
        wrong = [one for one in rounds(fault, interpreters.path(python), TIMES, seed) if one]
    assert not wrong, f"seed {seed}: {wrong}"
