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
    root = _HERE.parent
    if not (_HERE / name).exists() and (root / "setup.py").exists():
        raise InstallationError(
            f"{root} holds gilscope's sources, which are not built: "
            "run gilscope in another folder, or `make setup` and .venv/bin/gilscope in this one"
        )
    try:
        return ctypes.CDLL(str(_HERE / name))
    except OSError as error:
        raise InstallationError(
            f"gilscope's library {name} cannot be loaded ({error}); reinstall gilscope"
        ) from error
