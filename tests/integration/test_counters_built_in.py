"""The counters of Python Plus, whose own feed writes them."""

from __future__ import annotations

from pathlib import Path

from support import interpreters
from support.counting import expect_counters_equal_a_recording


def test_counters_equal_a_full_recording_in_plus(tmp_path: Path) -> None:
    expect_counters_equal_a_recording(tmp_path, interpreters.path(interpreters.PLUS))
