"""Runs real software twice, without gilscope and under `gilscope record`, and looks at both.

What is compared is the program's own word: its exit code, its output, what its client counted.
The recording must be whole: nothing lost, a possible story, every thread of a worker named.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.perfetto_engine import bad_stats, engine, query

import gilscope
from gilscope.trace.model import Trace

PROGRAMS = Path(__file__).parent / "programs"
LIMIT_S = 120  # of any one program: a hang is a failure, not a wait


@dataclass
class Finished:
    """A program that ran to its end."""

    exit_code: int
    output: str
    errors: str
    trace: Path | None = None


@dataclass
class Software:
    """The environment that the programs are installed in, and a folder for one test's files."""

    bin: Path
    folder: Path
    note: Callable[[str, object], None] = field(repr=False)

    @property
    def python(self) -> str:
        return str(self.bin / "python")

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> Finished:
        """The program alone."""
        with self.started(command, recorded=False, env=env) as program:
            return program.finish()

    def record(self, *command: str, env: Mapping[str, str] | None = None) -> Finished:
        """The same program under `gilscope record`."""
        with self.started(command, recorded=True, env=env) as program:
            return program.finish()

    @contextmanager
    def started(
        self, command: Sequence[str], recorded: bool, env: Mapping[str, str] | None = None
    ) -> Iterator[Running]:
        """A program that goes on until the test ends it; killed with all its children if not."""
        trace = self.folder / "trace.pftrace" if recorded else None
        gil = [sys.executable, "-m", "gilscope", "record", "--no-summary", "-o", str(trace), "--"]
        variables = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", **(env or {})}
        name = "recorded" if recorded else "plain"
        with (
            open(self.folder / f"{name}.out", "w+") as out,
            open(self.folder / f"{name}.err", "w+") as err,
        ):
            process = subprocess.Popen(
                [*(gil if recorded else []), *command],
                cwd=self.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            running = Running(process, Path(out.name), Path(err.name), trace)
            try:
                yield running
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


@dataclass
class Running:
    """A program while it runs; under gilscope, `process` is gilscope."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    trace: Path | None

    def until(self, ready: Callable[[], bool], what: str) -> None:
        """Wait for a state of the program. Fails when it ends first or takes too long."""
        deadline = time.monotonic() + LIMIT_S
        while not ready():
            assert self.process.poll() is None, f"ended before {what}: {self.err.read_text()}"
            assert time.monotonic() < deadline, f"never {what}: {self.err.read_text()}"
            time.sleep(0.02)

    def listens(self, port: int) -> None:
        """Wait until it accepts connections."""

        def connects() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self.until(connects, f"listening on {port}")

    def says(self, words: str) -> None:
        """Wait until it has written these words."""
        self.until(
            lambda: words in self.out.read_text() or words in self.err.read_text(),
            f"saying {words!r}",
        )

    def finish(self, send: signal.Signals | None = None) -> Finished:
        """Wait for its end, after a signal if one is given."""
        if send is not None:
            self.process.send_signal(send)
        code = self.process.wait(LIMIT_S)
        errors = [
            line
            for line in self.err.read_text().splitlines(keepends=True)
            if not line.startswith("gilscope: ")
        ]
        return Finished(code, self.out.read_text(), "".join(errors), self.trace)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- what a recording must be -----------------------------------------------------------------


@dataclass
class Seen:
    """A recording, read back by gilscope's own commands."""

    trace: Trace
    summary: dict[str, Any]
    path: Path

    def processes(self, word: str = "") -> list[dict[str, Any]]:
        """Python processes with `word` in their command line."""
        return [
            p for p in self.summary["processes"] if p["python"] and word in " ".join(p["command"])
        ]

    def names(self, process: dict[str, Any]) -> set[str]:
        return {thread["name"] for thread in process["threads"]}

    def threads(self, pattern: str) -> list[dict[str, Any]]:
        """All threads whose whole name matches."""
        return [
            t
            for p in self.summary["processes"]
            for t in p["threads"]
            if re.fullmatch(pattern, t["name"])
        ]

    def held_at(self, pid: int, tid: int, time_ns: int) -> bool:
        """Whether this thread held a GIL at this moment, by the trace."""
        meta = self.trace.metadata
        ids = [t.id for t in meta.threads if t.tid == tid and meta.processes[t.process].pid == pid]
        holds = self.trace.holds
        return any(
            bool(
                (
                    (holds["thread"] == i)
                    & (holds["start_ns"] <= time_ns)
                    & (time_ns <= holds["end_ns"])
                ).any()
            )
            for i in ids
        )


def look_at(software: Software, finished: Finished) -> Seen:
    """Read a recording with gilscope's commands and check what holds for all of them."""
    assert finished.trace is not None
    assert finished.trace.exists(), finished.errors
    path = str(finished.trace)
    summary = json.loads(_gilscope("summary", "--json", path))
    assert summary["lost_events"] == 0
    assert summary["events"] > 0
    *_, last, totals = _gilscope("dump", path).splitlines()
    assert "process.end" in last
    assert totals == f"totals events={summary['events']} clamped={summary['clock']['clamped']}"
    for process in summary["processes"]:
        for thread in process["threads"]:
            assert thread["name"], thread
            assert thread["class"] in {"io", "cpu", "mixed", "idle"}
            parts = sum(thread[f"{part}_ns"] for part in ("held", "waiting", "outside", "unknown"))
            assert parts == thread["life_ns"], thread
        for gil in process["gils"]:
            held = sum(t["held_ns"] for t in process["threads"] if t["gil"] == gil["id"])
            assert held == gil["held_ns"], process
    software.note("events", summary["events"])
    software.note("lost", summary["lost_events"])
    software.note("processes", sum(p["python"] is not None for p in summary["processes"]))
    software.note("threads", sum(len(p["threads"]) for p in summary["processes"]))
    classes = Counter(t["class"] for p in summary["processes"] for t in p["threads"])
    software.note("classes", ", ".join(f"{n} {kind}" for kind, n in classes.most_common()))
    return Seen(gilscope.read(finished.trace), summary, finished.trace)


def _gilscope(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "gilscope", *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_stamps(seen: Seen, output: str, at_least: int) -> None:
    """`stamp PID TID NS` lines: moments at which a thread ran Python, so it held the GIL.

    All processes stamp one clock, so this also holds their events to one time.
    """
    stamps = [tuple(map(int, m)) for m in re.findall(r"stamp (\d+) (\d+) (\d+)", output)]
    assert len(stamps) >= at_least, output
    wrong = [stamp for stamp in stamps if not seen.held_at(*stamp)]
    assert wrong == []


def check_in_perfetto(seen: Seen) -> None:
    """Perfetto's own engine opens it without an error and finds every hold."""
    with engine(seen.path) as tp:
        assert bad_stats(tp) == []
        one = query(
            tp,
            "select count(*) as n, sum(iif(dur < 0, 1, 0)) as opened from slice"
            " where name = 'holds GIL'",
        )[0]
        unnamed = query(tp, "select tid from thread where name is null and utid > 0")
    assert one == {"n": len(seen.trace.holds), "opened": 0}
    assert unnamed == []
