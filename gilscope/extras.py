"""Packages that only some commands need."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from gilscope.errors import InstallationError


def require(extra: str, *packages: str) -> None:
    """Raises InstallationError, which says how to install what is missing."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise InstallationError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; run:"
            f" {sys.executable} -m pip install 'gilscope[{extra}]'"
        )
