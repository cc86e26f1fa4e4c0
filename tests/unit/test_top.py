"""What `gilscope top` shows of a picture, and what its keys do, on a screen in memory."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from io import StringIO

import pytest
from rich.console import Console
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from gilscope.errors import ProcessGone
from gilscope.live import sampler
from gilscope.live.gil import GilState
from gilscope.live.sampler import half_interval
from gilscope.live.window import (
    GilPicture,
    Picture,
    ProcessPicture,
    ThreadPicture,
    WaitedSoFar,
    as_json,
    grouped,
    sort_by,
)
from gilscope.viewers import top_once
from gilscope.viewers.top import Help, Top, moving_line

HOSTILE = "a\x1b[31mb\u202ec"


def thread(name: str, held: float, waiting: float | None = 0.0, **more: object) -> ThreadPicture:
    return ThreadPicture(tid=1, name=name, held=held, waiting=waiting, **more)  # type: ignore[arg-type]


def process(pid: int, *threads: ThreadPicture) -> ProcessPicture:
    gil = GilPicture(held=0.75, contended=0.5, waiters=1.25, switches_per_s=200.0, holder="spin")
    lines = (("app.py:3 spin", 0.8), (HOSTILE, 0.2))
    return ProcessPicture(pid, f"python app.py {HOSTILE}", (gil,), threads, lines)


THREADS = (
    thread("worker-1", 0.2, 0.1, line="app.py:7 work", waited_s=3.0),
    thread("worker-2", 0.1, 0.2, now="waits", waited_s=4.0),
    thread("spin", 0.4, 0.05, now="holds", waited_s=1.0),
    thread(HOSTILE, 0.0, None),
)


def picture(source: str = "sampled") -> Picture:
    return Picture(source, 1.0, (process(10, *THREADS), process(11, thread("other", 0.1))), 0.04)


class Fake:
    """A source of one picture, until it is told to end."""

    def __init__(self) -> None:
        self.ended = False
        self.asked = 0

    def picture(self) -> Picture:
        self.asked += 1
        if self.ended:
            raise ProcessGone("process 10 has ended")
        return picture()

    def close(self) -> None:
        pass


Play = Callable[[Top, Pilot[int], Fake], Awaitable[None]]


def played(play: Play, size: tuple[int, int] = (80, 24)) -> Top:
    """The application after somebody played with it, from its first picture on."""

    async def run() -> Top:
        source = Fake()
        app = Top(source, 0.02)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.picture is not None)
            await play(app, pilot, source)
        return app

    return asyncio.run(run())


async def until(pilot: Pilot[int], condition: Callable[[], bool]) -> None:
    for _ in range(1500):
        if condition():
            return
        await pilot.pause(0.02)
    raise AssertionError("it did not come to that")


def names(app: Top) -> list[str]:
    table = app.screen_stack[0].query_one("#threads", DataTable)
    return [str(table.get_row_at(n)[0]) for n in range(table.row_count)]


def shown(app: Top, part: str) -> str:
    return str(app.screen_stack[0].query_one(part, Static).render())


def test_a_picture_is_shown() -> None:
    async def play(app: Top, pilot: Pilot[int], source: Fake) -> None:
        assert names(app)[:3] == ["spin", "worker-1", "worker-2"]
        head = shown(app, "#head")
        assert "10 (1 of 2)" in head
        assert "± 4 points" in head
        assert "75.0 %" in head
        assert "50.0 %" in head
        assert "hand-overs 200/s" in head
        assert "80.0 %  app.py:3 spin" in shown(app, "#lines")
        everything = head + shown(app, "#lines") + "".join(names(app))
        assert "\x1b" not in everything
        assert "\u202e" not in everything
        assert r"a\x1b[31mb\u202ec" in everything

    played(play)


def test_keys_sort_turn_and_group() -> None:
    async def play(app: Top, pilot: Pilot[int], source: Fake) -> None:
        await pilot.press("s")  # by waiting
        assert names(app)[:2] == ["worker-2", "worker-1"]
        await pilot.press("s")  # by what they waited so far
        assert names(app)[:2] == ["worker-2", "worker-1"]
        await pilot.press("s")  # by name
        assert names(app)[-2:] == ["worker-1", "worker-2"]
        await pilot.press("r")
        assert names(app)[:2] == ["worker-2", "worker-1"]
        await pilot.press("s", "r", "g")
        assert names(app)[:2] == ["spin", "worker-* (2)"]

    played(play)


def test_a_pause_holds_the_picture_and_not_the_source() -> None:
    async def play(app: Top, pilot: Pilot[int], source: Fake) -> None:
        await pilot.press("p")
        held, asked = app.picture, source.asked
        await until(pilot, lambda: source.asked > asked + 3)
        assert app.picture is held
        assert "PAUSED" in shown(app, "#head")
        await pilot.press("space")
        await until(pilot, lambda: app.picture is not held)
        assert "PAUSED" not in shown(app, "#head")

    played(play)


def test_another_process_is_picked_and_stays() -> None:
    async def play(app: Top, pilot: Pilot[int], source: Fake) -> None:
        await pilot.press("n")
        asked = source.asked
        await until(pilot, lambda: source.asked > asked + 2)
        assert names(app) == ["other"]
        await pilot.press("n")
        assert "10 (1 of 2)" in shown(app, "#head")
        await pilot.press("N")
        assert "11 (2 of 2)" in shown(app, "#head")

    played(play)


def test_help_comes_and_goes() -> None:
    async def play(app: Top, pilot: Pilot[int], source: Fake) -> None:
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        asked = source.asked
        await until(pilot, lambda: source.asked > asked + 2)
        await pilot.press("x")
        assert not isinstance(app.screen, Help)

    played(play)


@pytest.mark.parametrize(("key", "code"), [("q", 0), ("ctrl+c", 130)])
def test_leaving(key: str, code: int) -> None:
    async def play(app: Top, pilot: Pilot[int], source: Fake) -> None:
        await pilot.press(key)

    assert played(play).return_value == code


def test_the_end_of_the_process_ends_it() -> None:
    async def play(app: Top, pilot: Pilot[int], source: Fake) -> None:
        source.ended = True
        await until(pilot, lambda: app.ended is not None)

    app = played(play)
    assert app.ended == "process 10 has ended"
    assert app.return_value == 0


@pytest.mark.parametrize("size", [(30, 8), (80, 24), (200, 50), (400, 100)])
def test_any_size(size: tuple[int, int]) -> None:
    async def play(app: Top, pilot: Pilot[int], source: Fake) -> None:
        await pilot.resize_terminal(*size)
        await until(pilot, lambda: app.size.width == size[0])
        await pilot.pause()
        assert all(len(line) <= size[0] for line in shown(app, "#head").splitlines())

    played(play)


def test_a_moving_line() -> None:
    from collections import deque  # noqa: PLC0415

    assert moving_line(deque([0.0, 0.5, 1.0]), 5) == "   ▄█"
    assert moving_line(deque([0.0, 0.5, 1.0]), 2) == "▄█"
    assert moving_line(deque([1.0]), 0) == ""
    assert moving_line(deque([1.7, -1.0]), 2) == "█ "


def test_groups_add_up() -> None:
    workers = next(each for each in grouped(THREADS) if each.count == 2)
    assert workers.name == "worker-*"
    assert workers.held == pytest.approx(0.3)
    assert workers.waiting == pytest.approx(0.3)
    assert workers.waited_s == 7.0
    assert workers.line == "app.py:7 work"
    assert workers.now == "1 wait"
    unknown = grouped((thread("a-1", 0.1, None), thread("a-2", 0.1)))
    assert unknown[0].waiting is None
    assert sort_by(THREADS, "held", ascending=True)[0].name == HOSTILE


def test_what_was_waited_adds_up() -> None:
    so_far = WaitedSoFar()
    so_far.add(1, thread("a", 0, 0.5), 2.0)
    assert so_far.add(1, thread("a", 0, 0.25), 2.0).waited_s == 1.5
    assert so_far.add(2, thread("a", 0, None), 2.0).waited_s is None


def test_json_has_the_fields_that_are_promised() -> None:
    told = json.loads(json.dumps(as_json(picture())))
    assert told["error"] == 0.04
    first = told["processes"][0]
    assert first["pid"] == 10
    assert first["gils"] == [
        {"held": 0.75, "contended": 0.5, "waiters": 1.25, "switches_per_s": 200.0}
    ]
    assert first["threads"][0] == {
        "tid": 1,
        "name": "worker-1",
        "held": 0.2,
        "waiting": 0.1,
        "line": "app.py:7 work",
    }
    assert first["threads"][3]["waiting"] is None


def test_one_picture_as_text() -> None:
    out = StringIO()
    top_once.render(picture(), Console(file=out, width=80))
    text = out.getvalue()
    assert "GIL: held 75.0 %, 50.0 % while others waited, 1.2 waiting, 200 hand-overs/s" in text
    assert "worker-* (2)" in text
    assert "± 4 points" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("stays", [0.0, 0.5, 0.7])
def test_the_interval_has_the_truth(share: float, stays: float) -> None:
    """Samples of a state that stays from one to the next with this probability beyond chance."""
    chance = random.Random(7)
    inside, rounds = 0, 300
    for _ in range(rounds):
        bits, state = [], chance.random() < share
        for _ in range(200):
            if chance.random() >= stays:
                state = chance.random() < share
            bits.append(state)
        inside += abs(sum(bits) / len(bits) - share) <= half_interval(bits)
    assert inside >= 0.93 * rounds
    if stays == 0.0 and share == 0.5:
        assert half_interval(bits) < 0.1


@pytest.mark.parametrize(("switches", "known"), [(1_000, True), (15_000, True), (50_000, False)])
def test_where_the_gil_changes_hands_faster_than_a_look_the_error_is_not_known(
    switches: int, known: bool
) -> None:
    target = object.__new__(sampler._Target)
    target.began_at = 100.0
    gil = sampler._Gil()
    for number in range(200):
        holds = bool(number % 2)
        gil.add(GilState(5000, 1 if holds else None, 1, holds, switches * number // 199, 0))
    target.gils = {4096: gil}
    error = target.error(102.0)
    assert (error is not None) == known
    if error is not None:
        assert 0 < error < 0.2
