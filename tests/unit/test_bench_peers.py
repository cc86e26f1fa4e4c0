"""The comparison with other tools, with stand-ins for them: what runs, and what cannot."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from gilscope.benchmarks import peers, uprobes
from gilscope.benchmarks.peers import TOOLS, WORK, Tool
from gilscope.errors import InstallationError


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    peers.add_arguments(parser)
    return parser.parse_args([*words, "--quick", "--json"])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tools of the list, and two that cannot be; the environments are this one."""
    python = str(Path(sys.executable))
    count = 'echo "a;b 3\nc 4" > "$0"; exec "$@"'
    counted = Tool(
        "counts",
        "lines",
        lambda _, out: ["sh", "-c", count, str(out), python],
        ("counts",),
        peers._samples,
    )
    says = "echo /usr/lib/x/austin: no such thing >&2; exit 7"
    fails = Tool("fails", "", lambda _, __: ["sh", "-c", says])
    old = Tool("old", "", lambda _, __: [], newest=(3, 1))
    absent = Tool("absent", "", lambda _, __: [], ("absent",))
    monkeypatch.setattr(peers, "TOOLS", (*TOOLS[:2], counted, fails, old, absent))
    monkeypatch.setattr(peers, "WORK", {name: amount // 10 for name, amount in WORK.items()})
    real = peers.environments

    def here(interpreter: object, tools: object) -> tuple[dict[str, Path], dict[str, str]]:
        bins, missing = real(interpreter, tools)  # type: ignore[arg-type]
        return dict.fromkeys(bins, Path(python).parent), missing

    def install(_: object, folder: Path, packages: list[str]) -> None:
        if "absent" in packages:
            raise InstallationError("it cannot be installed: no such package")
        folder.mkdir(parents=True)

    monkeypatch.setattr(peers, "environments", here)
    monkeypatch.setattr(peers, "_install", install)


@pytest.mark.usefixtures("small")
def test_what_runs_is_compared_and_what_does_not_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert peers.run(options()) == 0
    told = json.loads(capsys.readouterr().out)
    rows = {(row["program"], row["tool"]): row["figures"] for row in told["rows"]}
    assert set(rows) == {(program, tool) for program in WORK for tool in ("gilscope", "counts")}
    for figures in rows.values():
        assert figures["slower"]["median"] > 0
    seen = rows["ping-pong", "gilscope"]
    happened = 2 * (WORK["ping-pong"] // 10 // 10)
    assert seen["hand-overs seen"]["median"] >= 99
    assert seen["records"]["median"] > happened
    assert seen["on disk"]["median"] > 1
    assert "an event" in seen
    assert "an event" not in rows["web server", "gilscope"]
    counted = rows["ping-pong", "counts"]
    assert counted["records"]["median"] == 7
    assert counted["on disk"]["median"] == len("a;b 3\nc 4\n") / 1024
    assert "an event" not in counted
    notes = " ".join(told["notes"])
    assert "fails: failed with" in notes
    assert "exit code 7: …/austin: no such thing" in notes
    assert "old: it does not run on this Python (up to 3.1)" in notes
    assert "absent: it cannot be installed: no such package" in notes


@pytest.mark.parametrize("missing", ["perf", "tracefs", "root"])
def test_uprobes_that_cannot_be_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing != "tracefs":
        (tmp_path / "uprobe_events").touch()
    monkeypatch.setattr(uprobes, "_TRACEFS", (tmp_path,))
    monkeypatch.setattr(uprobes.os, "geteuid", lambda: 1000 if missing == "root" else 0)
    monkeypatch.setattr(
        uprobes.shutil, "which", lambda name: None if missing == "perf" else f"/usr/bin/{name}"
    )
    why = "linux-perf" if missing == "perf" else "needs root, and: mount -t tracefs"
    with pytest.raises(InstallationError, match=why), uprobes.probes(Path(sys.executable)):
        pytest.fail("they are there")


def test_tools_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def environments(_: object, tools: list[Tool]) -> object:
        asked.extend(tool.name for tool in tools)
        raise InstallationError("enough")

    monkeypatch.setattr(peers, "environments", environments)
    with pytest.raises(InstallationError):
        peers.run(options("--only", "py-spy"))
    assert asked == ["nothing", "py-spy --gil, 100 Hz", "py-spy --gil, 1 kHz"]
