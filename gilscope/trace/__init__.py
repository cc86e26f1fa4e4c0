"""From rings or a finished trace to ordered events, and from those to intervals.

The package is what users call, too: `with gilscope.trace("out.pftrace"):`, `gilscope.trace.start`,
`gilscope.trace.stop` (attach/inside.py).
"""

from __future__ import annotations

import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from gilscope.attach.inside import Recording


def start(path: str | os.PathLike[str]) -> Recording:
    """Records this process into a trace until `stop`. Raises RecordingError, UsageError."""
    from gilscope.attach import inside  # noqa: PLC0415 - ctypes

    return inside.start(path)


def stop() -> None:
    """Ends the recording that was started last, and writes its trace. Raises UsageError."""
    from gilscope.attach import inside  # noqa: PLC0415

    inside.stop()


class _Callable(ModuleType):
    def __call__(self, path: str | os.PathLike[str]) -> Recording:
        """For `with`: records this process into a trace. Raises RecordingError, UsageError."""
        from gilscope.attach import inside  # noqa: PLC0415

        return inside.trace(path)


sys.modules[__name__].__class__ = _Callable
