"""What a cgroup counts of its quota, in both versions of its file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gilscope.recorder import kernel, quota
from gilscope.recorder.quota import Throttled, throttled
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
    monkeypatch.setattr(Path, "read_text", _with_line(line))
    assert throttled(os.getpid()) == expected


def _with_line(line: str) -> object:
    read = Path.read_text

    def read_text(self: Path, *args: str, **options: str) -> str:
        return line + "\n" if self.name == "cgroup" else read(self, *args, **options)

    return read_text


def test_of_nobody_and_since(tmp_path: Path) -> None:
    assert throttled(1 << 22) is None
    assert Throttled(5, 900).since(Throttled(2, 300)) == Throttled(3, 600)


def test_of_what_runs_already_its_own_group_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, counts = [], iter([Throttled(3, 100), Throttled(5, 300)])

    def count(pid: int) -> Throttled:
        asked.append(pid)
        return next(counts)

    monkeypatch.setattr(kernel, "throttled", count)
    session = Session()
    try:
        joined = kernel.Kernel(session, sched=False, say=pytest.fail)
        joined.join(lambda: [7, 8])
        assert joined.finish() == Throttled(2, 200)
    finally:
        session.discard()
    assert asked == [7, 7]
