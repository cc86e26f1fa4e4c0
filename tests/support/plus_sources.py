"""The probe's sources that are compiled into Python Plus, as its Makefile has them."""

from __future__ import annotations

import re
from pathlib import Path

_PROBE = Path("gilscope/probe")


def plus_sources(root: Path) -> tuple[str, ...]:
    """The plain C among them, relative to the repository."""
    rules = (root / _PROBE / "interpreter" / "gilscope.mk").read_text(encoding="utf-8")
    found = re.search(r"^GILSCOPE_PROBE_NAMES = ((?:.*\\\n)*.*)$", rules, re.MULTILINE)
    assert found is not None
    return tuple(str(_PROBE / f"{name}.c") for name in found[1].replace("\\\n", " ").split())
