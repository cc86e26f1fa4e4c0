"""gilscope: see who holds the GIL, who waits for it, for how long and because of whom."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gilscope.trace.model import Trace

__version__ = "0.1.0"


def read(path: str | os.PathLike[str]) -> Trace:
    """Read a .pftrace or .pftrace.gz that gilscope wrote, as arrays of intervals.

    Raises TraceError where it cannot be read, ImpossibleStory where it contradicts itself.
    """
    from gilscope.perfetto.reader import open_trace  # noqa: PLC0415 - perfetto, numpy
    from gilscope.trace.model import Trace  # noqa: PLC0415

    return Trace.from_source(open_trace(path))
