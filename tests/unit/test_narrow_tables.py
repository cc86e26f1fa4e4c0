"""Tables on a narrow terminal: names and lines are made shorter, numbers stay whole."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from gilscope.live.counters import Sums
from gilscope.live.totals import Group
from gilscope.live.window import GilPicture, Picture, ProcessPicture, ThreadPicture
from gilscope.viewers import top_once
from gilscope.viewers.counters import render_counters

LONG = "a-worker-that-has-a-name-of-many-letters"


def console(width: int) -> Console:
    return Console(file=StringIO(), width=width)


def printed(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_counters(width: int) -> None:
    sums = Sums(
        held_ns=203_000_000,
        io_wait_ns=80_400_000_000,
        cpu_wait_ns=1_430_000,
        made_wait_ns=123_456_789,
        acquires=1_234_567,
        contended=1_234_567,
        hand_overs=1,
    )
    there = console(width)
    render_counters([Group("app.py", LONG, sums)], there)
    text = printed(there)
    for whole in ("203 ms", "80.4 s", "1.43 ms", "123 ms", "1,234,567", "made wait", "contended"):
        assert whole in text
    assert text.count("1,234,567") == 2


@pytest.mark.parametrize("width", [60, 80])
def test_one_picture_of_top(width: int) -> None:
    thread = ThreadPicture(7, LONG, 0.123, 0.456, "a/long/way/to/some/module.py:1234 a_function")
    gil = GilPicture(0.5, 0.25, 1.0, 200.0)
    there = console(width)
    top_once.render(
        Picture("exact", 2.0, (ProcessPicture(7, "python app.py", (gil,), (thread,)),)), there
    )
    text = printed(there)
    assert "12.3 %" in text
    assert "45.6 %" in text
    assert text.count("a-worker") == 1
    assert max(map(len, text.splitlines())) <= width
