"""What a cgroup counts of its quota, in both versions of its file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gilscope.recorder import kernel, quota
from gilscope.recorder.quota import Throttled, group_of, throttled
from gilscope.recorder.session import Session

OURS = "usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 1200\n"
OLD = "nr_periods 9\nnr_throttled 4\nthrottled_time 7000\n"


@pytest.mark.parametrize(
    ("line", "place", "text", "expected"),
    [
        ("0::/a/b", "a/b", OURS, Throttled(3, 1_200_000)),
        ("0::/a/b", "a", OURS, Throttled(3, 1_200_000)),  # of the group above it
        ("4:cpu,cpuacct:/a", "cpu,cpuacct/a", OLD, Throttled(4, 7000)),
        ("4:cpu,cpuacct:/a", "cpu/a", OLD, Throttled(4, 7000)),
        ("4:memory:/a", "memory/a", OLD, None),
        ("0::/a", "a", "usage_usec 5\n", None),  # no controller counts
        ("0::/a", "a", "nr_throttled many\n", None),
    ],
)
def test_what_is_counted(  # noqa: PLR0917
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    place: str,
    text: str,
    expected: Throttled | None,
) -> None:
    groups = tmp_path / "cgroup"
    (groups / place).mkdir(parents=True)
    (groups / place / "cpu.stat").write_text(text)
    monkeypatch.setattr(quota, "_GROUPS", groups)
    assert throttled(line + "\n") == expected


def test_of_nobody() -> None:
    assert not group_of(1 << 22)
    assert throttled("") is None
    assert group_of(os.getpid())


Count = Throttled | None


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([("a", Throttled(3, 100)), ("a", Throttled(5, 300))], Throttled(2, 200)),
        ([("a", Throttled(3, 100)), ("", Throttled(5, 300))], Throttled(2, 200)),  # it has ended
        ([("a", Throttled(3, 100)), ("a", Throttled(5, 300)), ("", None)], Throttled(2, 200)),
        ([("a", Throttled(3, 100)), ("b", Throttled(9, 9)), ("b", Throttled(11, 70))], (2, 61)),
        (
            [
                *(("a", Throttled(1, 1)), ("a", Throttled(2, 5))),
                *(("b", Throttled(0, 0)), ("b", Throttled(7, 50))),
            ],
            Throttled(8, 54),
        ),
        ([("a", Throttled(1, 1)), ("a", Throttled(2, 5)), ("b", None)], Throttled(1, 4)),
        ([("a", None), ("b", Throttled(3, 3)), ("b", Throttled(4, 7))], Throttled(1, 4)),
        ([("a", None), ("a", None)], None),
    ],
)
def test_a_process_is_followed_from_group_to_group(
    monkeypatch: pytest.MonkeyPatch, looks: list[tuple[str, Count]], expected: Count
) -> None:
    groups, counts = iter([group for group, _ in looks]), iter([count for _, count in looks])
    asked = []

    def group(pid: int) -> str:
        asked.append(pid)
        return next(groups)

    monkeypatch.setattr(quota, "group_of", group)
    monkeypatch.setattr(quota, "throttled", lambda _: next(counts))
    session = Session()
    try:
        joined = kernel.Kernel(session, sched=False, say=pytest.fail)
        joined.join(lambda: [7, 8])
        for _ in looks[2:]:
            assert joined._quota
            joined._quota.look()
        assert joined.finish() == expected
    finally:
        session.discard()
    assert set(asked) == {7}
