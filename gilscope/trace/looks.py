"""What a recorder saw from outside of holds and waits that did not end: from the file beside the
rings into the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gilscope.recorder.notes import LOOKS
from gilscope.trace.limits import STACK_DEPTH, TEXT_BYTES, WORD_BYTES
from gilscope.trace.schema import Look, LookFrame, Metadata
from gilscope.trace.stacks import Library

_MOST_BYTES = 1 << 26


def with_looks(metadata: Metadata, directory: Path) -> Metadata:
    """The metadata with what was seen of its threads; as it is where nothing was, or where the file
    is damaged: a look is extra.
    """
    try:
        path = directory / LOOKS
        if path.stat().st_size > _MOST_BYTES:
            return metadata
        said = json.loads(path.read_text(encoding="utf-8"))
        return _with(metadata, said)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return metadata


def _with(metadata: Metadata, said: dict[str, Any]) -> Metadata:
    threads = _Threads(metadata)
    looks: list[Look] = []
    frames: list[LookFrame] = []
    in_library = Library()
    in_library.learn(str(file) for row, _ in _rows(said) for file, _, _ in row["frames"])
    for row, circle in _rows(said):
        pid, time_ns = int(row["pid"]), int(row["time_ns"])
        thread = threads.find(pid, int(row["tid"]), time_ns)
        if thread is None:
            continue
        holder = row["holder"]
        looks.append(
            Look(
                id=len(looks),
                thread=thread,
                time_ns=time_ns,
                waits_for=_word(row["waits_for"]),
                name=_text(row["name"]),
                holder=None if holder is None else threads.find(pid, int(holder), time_ns),
                known_by=_word(row["known_by"]),
                limited=bool(row["limited"]),
                circle=circle,
            )
        )
        for file, function, line in row["frames"][:STACK_DEPTH]:
            own = _text(file) or ""
            frames.append(
                LookFrame(
                    look=len(looks) - 1,
                    file=own,
                    function=_text(function) or "",
                    line=int(line),
                    library=in_library(own),
                )
            )
    return replace(metadata, looks=tuple(looks), look_frames=tuple(frames))


def _rows(said: dict[str, Any]) -> Iterator[tuple[dict[str, Any], int | None]]:
    for row in said["looks"]:
        yield row, None
    for number, circle in enumerate(said["circles"]):
        for row in circle:
            yield row, number


class _Threads:
    """The threads of a recording by pid and tid, of which several may have had the same."""

    def __init__(self, metadata: Metadata) -> None:
        self._found: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for thread in metadata.threads:
            key = metadata.processes[thread.process].pid, thread.tid
            self._found.setdefault(key, []).append((thread.start_ns, thread.id))

    def find(self, pid: int, tid: int, time_ns: int) -> int | None:
        """The one that was alive then."""
        began = [one for one in self._found.get((pid, tid), ()) if one[0] <= time_ns]
        return max(began)[1] if began else None


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return str(value).encode("utf-8", "replace")[:TEXT_BYTES].decode("utf-8", "ignore")


def _word(value: Any) -> str | None:
    text = _text(value)
    return text if text is None or (len(text) <= WORD_BYTES and text.isprintable()) else None
