"""gilscope: see who holds the GIL, who waits for it, for how long and because of whom."""

from __future__ import annotations

import os

# Not the one of `typing`: whatever is imported here may come from the program's PYTHONPATH.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from gilscope import locks as locks
    from gilscope.attach.inside import install as install
    from gilscope.attach.inside import trace as trace
    from gilscope.scheduling import yield_gil as yield_gil
    from gilscope.sync import Condition as Condition
    from gilscope.sync import atomic as atomic
    from gilscope.sync import set_atomic as set_atomic
    from gilscope.trace.model import Trace as Trace

__version__ = "0.1.0"

__all__ = [
    "Condition",
    "Trace",
    "atomic",
    "install",
    "locks",
    "read",
    "set_atomic",
    "trace",
    "yield_gil",
]

# Name: the module that has it.
_LAZY = dict.fromkeys(("Condition", "atomic", "set_atomic"), "gilscope.sync") | {
    "yield_gil": "gilscope.scheduling",
    "Trace": "gilscope.trace.model",
    "install": "gilscope.attach.inside",
}


if not TYPE_CHECKING:  # to a type checker a module with this function has every name

    def __getattr__(name: str) -> object:
        """What `import gilscope` alone does not load."""
        from importlib import import_module  # noqa: PLC0415

        if name in ("locks", "trace"):
            return import_module(f"gilscope.{name}")
        if name not in _LAZY:
            raise AttributeError(f"module 'gilscope' has no attribute {name!r}")
        value = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def read(path: str | os.PathLike[str]) -> Trace:
    """Read a .pftrace or .pftrace.gz that gilscope wrote, as arrays of intervals.

    Raises TraceError where it cannot be read, ImpossibleStory where it contradicts itself.
    """
    from gilscope.perfetto.reader import open_trace  # noqa: PLC0415 - perfetto, numpy
    from gilscope.trace.model import Trace  # noqa: PLC0415

    return Trace.from_source(open_trace(path))
