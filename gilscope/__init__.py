"""gilscope: see who holds the GIL, who waits for it, for how long and because of whom."""

from __future__ import annotations

__version__ = "0.1.0"
