"""`gilscope top` in a terminal: what it shows of real programs, its keys, and how it leaves."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest
from support import interpreters
from support.recorded import GILSCOPE

DEADLINE_S = 90
# Until it is killed, or its standard input ends.
PROGRAM = """
import sys, threading, time
def computes():
    while True:
        sum(range(3000))
def naps():
    while True:
        time.sleep(0.002)
for i in range(2):
    threading.Thread(target=computes, name=f"computes-{i}", daemon=True).start()
threading.Thread(target=naps, name="naps", daemon=True).start()
print("begun", flush=True)
sys.stdin.read()
"""


class Screen:
    """A command in a pseudo-terminal, and what stands on it."""

    def __init__(self, *command: str, columns: int = 80, rows: int = 24) -> None:
        self._main, its = pty.openpty()
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.told = b""
        self._size(its, columns, rows)
        self.before = termios.tcgetattr(its)
        self._its = its
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        for size in ("COLUMNS", "LINES"):  # they would stand above the terminal's
            environment.pop(size, None)
        self.process = subprocess.Popen(
            [*GILSCOPE, "top", *command],
            stdin=its,
            stdout=its,
            stderr=its,
            env=environment,
            start_new_session=True,
        )

    @staticmethod
    def _size(terminal: int, columns: int, rows: int) -> None:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        self._screen.resize(rows, columns)
        self._size(self._its, columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    @property
    def text(self) -> str:
        return "\n".join(self._screen.display)

    def read(self, patience_s: float = 0.1) -> None:
        while select.select([self._main], [], [], patience_s)[0]:
            try:
                data = os.read(self._main, 1 << 16)
            except OSError:  # nobody has the other side any more
                return
            self.told += data
            self._stream.feed(data)
            patience_s = 0.0

    def until(self, shows: Callable[[str], object]) -> str:
        deadline = time.monotonic() + DEADLINE_S
        while not shows(self.text):
            assert time.monotonic() < deadline, self.text
            assert self.process.poll() is None, self.text
            self.read()
        return self.text

    def end(self) -> int:
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text
            self.read()
        self.read()
        return int(self.process.returncode)

    def is_as_before(self) -> None:
        """Modes of the terminal, the other screen left, the cursor and the mouse as they were."""
        assert termios.tcgetattr(self._its) == self.before
        for on, off in (("1049h", "1049l"), ("25l", "25h"), ("1000h", "1000l"), ("2004h", "2004l")):
            begun, over = (self.told.rfind(b"\x1b[?" + mode.encode()) for mode in (on, off))
            assert begun < over or begun == -1, (on, self.told[-300:])

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._main)
        os.close(self._its)


@contextlib.contextmanager
def screen(*command: str, columns: int = 80, rows: int = 24) -> Iterator[Screen]:
    there = Screen(*command, columns=columns, rows=rows)
    try:
        yield there
    finally:
        there.close()


@contextlib.contextmanager
def program(name: str = "3.11") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [interpreters.path(name), "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_keys_and_sizes() -> None:
    with program() as watched, screen(str(watched.pid)) as top:
        text = top.until(lambda text: "computes-1" in text and "naps" in text)
        assert str(watched.pid) in text
        assert "sampled, ±" in text
        top.until(lambda text: "holds" in text)
        top.until(lambda text: ":5 computes" in text)
        top.press("g")
        top.until(lambda text: "computes-* (2)" in text and "computes-1" not in text)
        top.press("p")
        top.until(lambda text: "PAUSED" in text)
        top.press("s")
        top.until(lambda text: "by waiting" in text)
        top.press("r")
        top.until(lambda text: "by waiting, rising" in text)
        top.press("?")
        top.until(lambda text: "any key: back" in text)
        top.press("x")
        top.until(lambda text: "any key: back" not in text)
        top.press("r")  # the first screen has the keys again, so it is the one that is resized
        top.until(lambda text: "by waiting" in text and "rising" not in text)
        top.resize(120, 40)
        top.until(lambda text: "help" in text.splitlines()[39])
        top.resize(60, 12)
        top.until(lambda text: "PAUSED" in text and "quit" in text.splitlines()[11])
        top.press("q")
        assert top.end() == 0
        top.is_as_before()
        assert watched.poll() is None


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT], ids=lambda n: n.name
)
def test_a_signal_leaves_the_terminal_as_it_was(number: signal.Signals) -> None:
    with program() as watched, screen(str(watched.pid)) as top:
        top.until(lambda text: "naps" in text)
        assert termios.tcgetattr(top._its) != top.before
        top.process.send_signal(number)
        assert top.end() == 128 + number
        top.is_as_before()
        assert watched.poll() is None


def test_ctrl_c_and_the_end_of_the_process() -> None:
    with program() as watched:
        with screen(str(watched.pid)) as top:
            top.until(lambda text: "naps" in text)
            top.press("\x03")
            assert top.end() == 130
            top.is_as_before()
        with screen(str(watched.pid)) as top:
            top.until(lambda text: "naps" in text)
            watched.kill()
            watched.wait()
            assert top.end() == 0
            top.is_as_before()
            assert b"has ended" in top.told


def test_a_command_is_shown_exactly_and_its_output_kept() -> None:
    source = "print('first', flush=True)\n" + PROGRAM.replace(
        "sys.stdin.read()", "time.sleep(1.5); print('last'); sys.exit(7)"
    )
    with screen("--every", "0.2", "--", sys.executable, "-c", source) as top:
        text = top.until(lambda text: "naps" in text)
        assert "exact counters" in text
        assert "first" not in text.replace("print('first'", "")
        assert top.end() == 7
        top.is_as_before()
        after = top.told[top.told.rindex(b"\x1b[?1049l") :].decode()
        assert after.index("first") < after.index("begun") < after.index("last")


def test_quitting_ends_the_command_that_it_started(tmp_path: Path) -> None:
    source = f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n" + PROGRAM
    source = source.replace("sys.stdin.read()", "threading.Event().wait()")
    with screen("--every", "0.2", "--", sys.executable, "-c", source) as top:
        top.until(lambda text: "naps" in text)
        top.press("q")
        assert top.end() == 0
        top.is_as_before()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GILSCOPE, "top", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


@pytest.mark.parametrize("name", ["3.9", "3.11", "3.13", "debian"])
def test_samples_agree_with_the_counters_of_the_same_window(name: str, tmp_path: Path) -> None:
    """Within the error that is stated, and a bit for the two windows not being the same."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = ["record", "--counters", "--quiet", "--", str(interpreters.path(name))]
    recorded = subprocess.Popen(
        [*GILSCOPE, *command, str(tmp_path / "program.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert recorded.stdout
        assert recorded.stdout.readline() == "begun\n"
        (pid,) = children(recorded.pid)
        both = [
            subprocess.Popen(
                [*GILSCOPE, "top", "--once", "--json", "--every", "4", *more, str(pid)],
                stdout=subprocess.PIPE,
            )
            for more in (["--sampled"], [])
        ]
        sampled, exact = (json.loads(each.communicate(timeout=DEADLINE_S)[0]) for each in both)
    finally:
        recorded.kill()
        recorded.wait()
        for pid in children(recorded.pid):
            os.kill(pid, signal.SIGKILL)
    assert (sampled["source"], exact["source"], exact["error"]) == ("sampled", "exact", 0.0)
    assert 0 < sampled["error"] < 0.25
    margin = sampled["error"] + 0.1
    (one,), (other,) = sampled["processes"], exact["processes"]
    (gil,), (true,) = one["gils"], other["gils"]
    for share in ("held", "contended"):
        assert abs(gil[share] - true[share]) <= margin, share
    held = {thread["name"]: thread["held"] for thread in other["threads"]}
    for thread in one["threads"]:
        assert abs(thread["held"] - held[thread["name"]]) <= margin, thread
    lines = {thread["name"]: thread["line"] for thread in one["threads"]}
    assert lines["computes-0"] == "program.py:5 computes"


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in text.read_text().split()] if text.exists() else []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "top of what?"),
        (("--json", "1"), 2, "add --once"),
        (("1234",), 2, "top needs a terminal"),
        (("--once", "999999999"), 4, "999999999"),
        (("--once", "--every", "0.2", "--", "/nowhere/at/all"), 1, "/nowhere/at/all"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], code: int, says: str) -> None:
    done = top(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert says in done.stderr


def test_a_process_without_python_is_refused() -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        done = top("--once", str(sleeper.pid))
        assert (done.returncode, done.stderr.count("\n")) == (4, 1), done.stderr
    finally:
        sleeper.kill()
        sleeper.wait()
