"""Native Condition and atomic sections."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from gilscope.errors import InstallationError

try:
    from gilscope._sync import Atomic, Condition, Sleeper, set_atomic, tell
except ImportError as missing:
    raise InstallationError(
        "gilscope's native types are not built for this Python (free-threaded builds have none):"
        f" {missing}"
    ) from missing

__all__ = ["Condition", "Sleeper", "atomic", "set_atomic", "tell"]

_F = TypeVar("_F", bound=Callable[..., object])


class _Atomic(Atomic):
    """No other thread makes this one yield the GIL inside `with atomic:` or `@atomic`.

    What blocks inside (a lock, IO, sleep) lets others run as ever. Sections nest; each thread has
    its own; a yield that was held back happens at the end of the outermost. Signal handlers and
    finalizers still run inside.

    Raises GilscopeError where nothing watches the GIL: it works in programs that `gilscope run` or
    `gilscope record` started, and in Python Plus.
    """

    def __call__(self, function: _F) -> _F:
        """A function whose every call is one section; of a generator, only its making."""

        @wraps(function)
        def section(*args: object, **names: object) -> object:
            with self:
                return function(*args, **names)

        return section  # type: ignore[return-value]

    def __repr__(self) -> str:
        return "gilscope.atomic"


atomic = _Atomic()
