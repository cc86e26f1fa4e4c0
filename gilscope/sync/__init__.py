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
# CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR of inspect, which takes long to import.
_LEAVES_OFF = 0x20 | 0x80 | 0x200


def _section(self: Atomic, function: _F) -> _F:
    """A function whose every call is one section.

    Raises TypeError for what is no function, and for coroutines and generators, which leave off and
    go on: a section would hold nothing there.
    """
    if not callable(function):
        raise TypeError("atomic takes a function, or stands in a with statement")
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & _LEAVES_OFF:
        raise TypeError(
            f"{function.__qualname__}() leaves off and goes on, so no section can hold it whole; "
            "put `with atomic:` around the lines between"
        )

    @wraps(function)
    def section(*args: object, **names: object) -> object:
        with self:
            return function(*args, **names)

    return section  # type: ignore[return-value]


def _name(_: Atomic) -> str:
    return "gilscope.atomic"


# Not a subclass: to look up its methods would take 5 ns more of each section.
Atomic.__call__ = _section  # type: ignore[method-assign]
Atomic.__repr__ = _name  # type: ignore[method-assign, assignment]
atomic = Atomic()
