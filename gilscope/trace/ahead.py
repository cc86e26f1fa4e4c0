"""Reads a source's batches in a thread of its own, one or two ahead of their use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AHEAD = 1


def read_ahead(batches: Iterator[NDArray[np.void]]) -> Generator[NDArray[np.void], None, None]:
    """The batches, each made while the one before is used: decoding takes no GIL.

    As theirs, each is valid until the next: they are copied into three buffers that go round.

    What `batches` raises is raised here, in its turn.
    """
    ready: queue.Queue[NDArray[np.void] | BaseException | None] = queue.Queue(_AHEAD)
    spare: list[NDArray[np.void]] = []
    abandoned = threading.Event()

    def work() -> None:
        end: BaseException | None = None
        try:
            for batch in batches:
                buffer = spare.pop() if spare else np.empty_like(batch)
                if len(buffer) < len(batch):
                    buffer = np.empty_like(batch)
                kept = buffer[: len(batch)]
                # As bytes: numpy copies structures field by field.
                kept.view(np.uint8)[:] = batch.view(np.uint8)
                ready.put(kept)
                if abandoned.is_set():
                    break
        except BaseException as error:
            end = error
        ready.put(end)

    reader = threading.Thread(target=work, name="gilscope-reader", daemon=True)
    reader.start()
    item = ready.get()
    try:
        while isinstance(item, np.ndarray):
            yield item
            spare.append(item)
            item = ready.get()
        if item is not None:
            raise item
    finally:
        abandoned.set()
        while isinstance(item, np.ndarray):  # the last thing that it puts is none
            item = ready.get()
        reader.join()
