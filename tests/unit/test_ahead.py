"""Batches that are read ahead of their use."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from gilscope.trace.ahead import read_ahead
from gilscope.trace.schema import EVENT_DTYPE


def batches(sizes: list[int], then: Exception | None = None) -> Iterator[NDArray[np.void]]:
    """One buffer again and again, as sources do; events are numbered by their time."""
    room = np.zeros(max(sizes, default=0), EVENT_DTYPE)
    number = 0
    for size in sizes:
        room["time_ns"][:size] = np.arange(number, number + size)
        number += size
        yield room[:size]
    if then:
        raise then


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gilscope-reader"]


@pytest.mark.parametrize("sizes", [[], [5], [3, 7, 2, 7, 1], [64] * 50])
def test_all_come_in_order(sizes: list[int]) -> None:
    seen: list[int] = []
    for batch in read_ahead(batches(sizes)):
        assert batch.dtype == EVENT_DTYPE
        seen += batch["time_ns"].tolist()
    assert seen == list(range(sum(sizes)))
    assert readers() == []


def test_an_error_comes_in_its_turn() -> None:
    reading = read_ahead(batches([4, 4, 4], then=ValueError("broken")))
    assert [len(next(reading)) for _ in range(3)] == [4, 4, 4]
    with pytest.raises(ValueError, match="broken"):
        next(reading)
    assert readers() == []


def test_whoever_reads_no_further_leaves_no_thread() -> None:
    reading = read_ahead(batches([4] * 1000))
    next(reading)
    assert len(readers()) == 1
    reading.close()
    assert readers() == []
