"""Native Condition, atomic sections, and locks built on them."""

from __future__ import annotations

from gilscope.errors import InstallationError

try:
    from gilscope._sync import Condition
except ImportError as missing:
    raise InstallationError(
        "gilscope's native types are not built for this Python (free-threaded builds have none):"
        f" {missing}"
    ) from missing

__all__ = ["Condition"]
