"""Golden files: what a test printed once, read by a person, and kept."""

from __future__ import annotations

import os
from pathlib import Path


def expect_golden(path: Path, text: str) -> None:
    """`text` is what `path` holds; with GILSCOPE_GOLDEN=write it is written there instead."""
    if os.environ.get("GILSCOPE_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
