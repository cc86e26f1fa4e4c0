"""Holds the blame of every trace of the test suite against SQL.

One that a test reads or makes up is checked at once, so hypothesis can make it smaller; one that it
only leaves as a file when it is over. Files are checked in Perfetto's engine too, each content
once. Of more than LARGE events SQL adds up the waiting and nothing else: sorting and importing take
seconds there, and meet nothing that smaller traces do not have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine_blame import expect_engine_agrees
from support.sql_blame import expect_sql_agrees, expect_waiting
from support.sql_locks import expect_engine_has_locks, expect_locks

from gilscope.analysis.summary import summarise
from gilscope.errors import GilscopeError
from gilscope.perfetto.reader import TraceFile, open_trace
from gilscope.trace.model import Trace
from gilscope.trace.schema import EventSource

LARGE = 50_000

_checked: set[bytes] = set()  # digests of files


def held_against_sql(folder: Path | None) -> Iterator[None]:
    """A fixture's body, for a test that keeps its files in `folder`."""
    make = Trace.from_source

    def made(source: EventSource) -> Trace:
        trace = make(source)
        if not isinstance(source, TraceFile):
            _check(trace)
        elif _is_new(path := Path(source.name)):
            _check(trace, path)
        return trace

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trace, "from_source", staticmethod(made))
        yield
    if folder is None:
        return
    for path in (*folder.rglob("*.pftrace"), *folder.rglob("*.pftrace.gz")):
        if path.is_file() and _is_new(path):
            try:
                trace = make(open_trace(path))
            except GilscopeError:
                continue  # what is no trace, on purpose
            _check(trace, path)


def _is_new(path: Path) -> bool:
    digest = hashlib.blake2b(path.read_bytes()).digest()
    before = len(_checked)
    _checked.add(digest)
    return len(_checked) > before


def _check(trace: Trace, path: Path | None = None) -> None:
    summary = summarise(trace)
    small = trace.totals.events <= LARGE
    expect_locks(trace, summary, rows=small)
    if not small:
        expect_waiting(trace, summary)
        return
    expect_sql_agrees(trace, summary)
    if path is not None:
        expect_engine_agrees(path, trace.metadata, summary)
        expect_engine_has_locks(path, trace, summary)
