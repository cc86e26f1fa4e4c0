"""Traces as commands read them to make something of them for others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gilscope.trace.model import Trace


def add_redact(parser: argparse.ArgumentParser) -> None:
    """`--redact`, the same for everything that is made of a trace."""
    parser.add_argument(
        "--redact",
        action="store_true",
        help="write neither arguments nor folders outside the current one into it",
    )


def read(path: Path, *, redact: bool) -> Trace:
    """The trace, or what may be shown of it. Raises TraceError."""
    from gilscope.cli.progress import watched  # noqa: PLC0415
    from gilscope.perfetto.reader import open_trace  # noqa: PLC0415 - numpy, perfetto
    from gilscope.trace.model import Trace  # noqa: PLC0415
    from gilscope.trace.redact import Redacted  # noqa: PLC0415

    source = watched(open_trace(path), f"reading {path.name}")
    return Trace.from_source(Redacted(source) if redact else source)
