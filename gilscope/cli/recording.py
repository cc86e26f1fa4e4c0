"""The folder of a recording that is over, as commands open it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gilscope.trace.committed import Joined
    from gilscope.trace.rings import RingSource


def open_recording(directory: Path) -> RingSource | Joined:
    """Its rings, behind what a trace that was cut short has alone. Raises TraceError."""
    from gilscope.perfetto.reader import PartFile  # noqa: PLC0415 - numpy, perfetto
    from gilscope.trace.committed import Joined, is_needed  # noqa: PLC0415
    from gilscope.trace.rings import open_rings  # noqa: PLC0415

    return Joined(directory, PartFile) if is_needed(directory) else open_rings(directory)
