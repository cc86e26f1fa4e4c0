"""Loads the two shared libraries by ctypes.

`_probe` runs inside traced programs (it is preloaded there) and is called here for its clocks and
its rings; `_engine` orders, encodes, decodes and folds events and runs in gilscope alone.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from gilscope.errors import InstallationError

_HERE = Path(__file__).parent


def probe_path() -> Path:
    """Path of the library to preload."""
    return _HERE / "_probe.so"


@cache
def probe() -> ctypes.CDLL:
    """The probe's library. Raises InstallationError when it was not built."""
    return _load("_probe.so")


@cache
def engine() -> ctypes.CDLL:
    """The reader's library. Raises InstallationError when it was not built."""
    return _load("_engine.so")


def _load(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(_HERE / name))
    except OSError as error:
        raise InstallationError(
            f"gilscope's library {name} cannot be loaded ({error}); reinstall gilscope"
        ) from error
