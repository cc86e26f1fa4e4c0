"""Circles of waits, against a search that is too simple to be wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gilscope.live.deadlocks import cycles


def test_none_one_and_two() -> None:
    assert cycles({}) == []
    assert cycles({"a": "b", "b": None}) == []
    assert cycles({"a": "b", "b": "a", "c": "a"}) == [["a", "b"]]
    assert cycles({"c": "a", "a": "b", "b": "a"}) == [["a", "b"]]
    assert cycles({"a": "b", "b": "c", "c": "a", "d": "e", "e": "d"}) == [
        ["a", "b", "c"],
        ["d", "e"],
    ]
    assert cycles({"a": "a"}) == [["a"]]  # it waits for what it has itself
    assert cycles({"a": "gone"}) == []


@given(st.dictionaries(st.integers(0, 12), st.none() | st.integers(0, 12)))
def test_each_circle_once(waits_on: dict[int, int | None]) -> None:
    found = cycles(waits_on)
    for circle in found:
        assert [waits_on[one] for one in circle] == circle[1:] + circle[:1]
    members = [one for circle in found for one in circle]
    assert len(members) == len(set(members))
    for start in waits_on:
        at: int | None = start
        for _ in range(len(waits_on)):
            at = None if at is None else waits_on.get(at)
            if at == start:
                assert start in members
                break
        else:
            assert start not in members
