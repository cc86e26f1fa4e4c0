"""Traces that earlier versions wrote, in tests/format/old, are read as they were then.

`format-N-STORY.pftrace.gz` was written by the last gilscope of format N from a golden story (or
from `rolled_story(7, 400, ((3, 2), (2, 1)))`); beside it is its text.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

from gilscope.errors import TraceError
from gilscope.perfetto import layout
from gilscope.perfetto.reader import open_trace
from gilscope.perfetto.writer import write_trace
from gilscope.trace.text import lines

OLD = sorted((Path(__file__).parent / "old").glob("*.pftrace.gz"))


def test_each_format_that_is_read_is_here() -> None:
    formats = {int(path.name.split("-")[1]) for path in OLD}
    assert formats == set(layout.READABLE) - {layout.FORMAT}


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.name.split(".")[0])
def test_they_are_read_and_written_anew(path: Path, tmp_path: Path) -> None:
    dump = path.with_suffix("").with_suffix(".dump").read_text(encoding="utf-8")
    assert says_all(lines(open_trace(path)), dump)
    new = tmp_path / "new.pftrace"
    write_trace(open_trace(path), new)
    assert says_all(lines(open_trace(new)), dump)


def says_all(text: Iterable[str], dump: str) -> bool:
    """Whether it is that dump, but for fields that came later, at the ends of lines."""
    now, then = "".join(text).splitlines(), dump.splitlines()
    fits = (
        new == old or (new.startswith(f"{old} ") and "=" in new.removeprefix(f"{old} "))
        for new, old in zip(now, then, strict=True)
    )
    return len(now) == len(then) and all(fits)


def test_a_detail_of_format_2_on_no_track_is_refused(tmp_path: Path) -> None:
    """They stood on the main sequence."""
    old = next(path for path in OLD if path.name.startswith("format-2-convoy"))
    trace = Trace.FromString(gzip.decompress(old.read_bytes()))
    detail = next(p for p in trace.packet if p.track_event.name.startswith("for "))
    detail.track_event.track_uuid = 2 << 32 | 10**6
    changed = tmp_path / "changed.pftrace"
    changed.write_bytes(trace.SerializeToString())
    with pytest.raises(TraceError, match="does not write"):
        list(open_trace(changed).batches())
