"""When a second request to end counts, by a clock of the test's own."""

from __future__ import annotations

import signal

import pytest

from gilscope.recorder import patience
from gilscope.recorder.patience import MOMENT_S, TOGETHER_S, Patience


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def test_one_request_is_told_once(clock: Clock) -> None:
    told: list[float] = []
    waiting = Patience(lambda: told.append(clock.now))
    assert waiting.over() is None
    waiting.asked(signal.SIGINT)
    for _ in range(50):
        clock.now += MOMENT_S / 10
        assert waiting.over() is None
    assert len(told) == 1


def test_a_second_one_ends_it_after_a_moment(clock: Clock) -> None:
    waiting = Patience(lambda: None)
    waiting.asked(signal.SIGINT)
    clock.now += 2 * MOMENT_S
    assert waiting.over() is None
    waiting.asked(signal.SIGTERM)
    assert waiting.over() is None
    clock.now += MOMENT_S
    assert waiting.over() == signal.SIGTERM


def test_a_late_one_is_a_first_one(clock: Clock) -> None:
    told: list[float] = []
    waiting = Patience(lambda: told.append(clock.now))
    for number in range(1, 4):
        waiting.asked(signal.SIGINT)
        clock.now += TOGETHER_S + 1
        assert waiting.over() is None
        assert len(told) == number


def test_other_signals_ask_for_no_end(clock: Clock) -> None:
    waiting = Patience(lambda: pytest.fail("told"))
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT):
        waiting.asked(number)
        waiting.asked(number)
        clock.now += MOMENT_S
        assert waiting.over() is None
