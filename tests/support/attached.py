"""Programs that gilscope did not start, and `gilscope attach` to them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.recorded import GILSCOPE

DEADLINE_S = 60

# A threaded server under load: a client, a thread that computes, short threads, locks, forks,
# programs that it starts. It ends when its input ends, and tells what went wrong.
SERVER = r"""
import os, queue, socket, subprocess, sys, threading, time, warnings
warnings.simplefilter("ignore")
over, wrong, done = threading.Event(), [], dict.fromkeys(("echo", "short", "fork", "pair"), 0)
def guarded(name):
    def start(work):
        def run():
            try:
                while not over.is_set():
                    work()
                    done[name] = done.get(name, 0) + 1
            except BaseException as error:
                wrong.append(f"{name}: {error!r}")
        thread = threading.Thread(target=run, name=name, daemon=True)
        threads.append(thread)
        return thread
    return start
threads = []
listener = socket.create_server(("127.0.0.1", 0))
def serve(connection):
    while data := connection.recv(64):
        connection.sendall(data)
def accept():
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
client = socket.create_connection(listener.getsockname())
@guarded("echo")
def echo():
    client.sendall(b"x")
    assert client.recv(64) == b"x"
    time.sleep(0.001)
@guarded("spin")
def spin():
    sum(i * i % 7 for i in range(20000))
@guarded("short")
def short():
    few = [threading.Thread(target=sum, args=(range(100),)) for _ in range(3)]
    for one in few: one.start()
    for one in few: one.join()
    time.sleep(0.003)
@guarded("fork")
def fork():
    child = os.fork()
    if child == 0:
        try:
            one = threading.Thread(target=time.sleep, args=(0.001,)); one.start(); one.join()
            os._exit(7)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 30
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended: break
        if time.monotonic() > deadline:
            os.kill(child, 9); os.waitpid(child, 0)
            raise AssertionError("a child hangs")
        time.sleep(0.005)
    assert os.WEXITSTATUS(status) == 7, status
    time.sleep(0.02)
there, back = queue.Queue(1), queue.Queue(1)
def answer():
    while True: back.put(there.get())
threading.Thread(target=answer, daemon=True).start()
@guarded("pair")
def pair():
    there.put(1); back.get(); time.sleep(0.0005)
for thread in threads: thread.start()
print("ready", flush=True)
for line in sys.stdin:
    if line == "spawn\n":
        command = [sys.executable, "-c", "print(7 * 6)"]
        print(subprocess.run(command, capture_output=True).stdout, flush=True)
over.set()
for thread in threads: thread.join(30)
print(wrong or "fine", done, flush=True)
os._exit(1 if wrong or any(thread.is_alive() for thread in threads) else 0)
"""


class Target:
    """A program that runs until its input ends; `ready` is the first line that it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def line(self) -> str:
        """The next that it prints."""
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def say(self, text: str) -> None:
        """A line of its input."""
        assert self.process.stdin
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Its input ends: its exit code, and what else it printed."""
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out

    def libraries(self) -> set[str]:
        """Paths of what it has mapped from files."""
        lines = Path(f"/proc/{self.pid}/maps").read_text().splitlines()
        return {words[5] for line in lines if len(words := line.split(None, 5)) == 6}

    def footprint(self) -> tuple[list[str], int, bytes]:
        """Its mappings of files with their access, its descriptors, its environment."""
        lines = Path(f"/proc/{self.pid}/maps").read_text().splitlines()
        files = sorted(" ".join(line.split()[1:]) for line in lines if "/" in line)
        environment = Path(f"/proc/{self.pid}/environ").read_bytes()
        descriptors = []
        for _ in range(10):  # from 3.12 on a fork looks into /proc: one more, for a moment
            descriptors.append(len(os.listdir(f"/proc/{self.pid}/fd")))
            time.sleep(0.005)
        return files, min(descriptors), environment


@contextmanager
def running(
    python: Path, program: str, *arguments: str, cwd: Path | None = None
) -> Iterator[Target]:
    """The program, once it has printed a line; it is killed in the end."""
    process = subprocess.Popen(
        [python, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )
    try:
        target = Target(process)
        assert target.line() == "ready"
        yield target
    finally:
        process.kill()
        process.communicate()


def attach_command(pid: int, trace: Path, *options: str) -> list[str]:
    """`gilscope attach`."""
    return [*GILSCOPE, "attach", str(pid), "-o", str(trace), "--no-summary", *options]


def attach(
    target: Target, trace: Path, *options: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`gilscope attach`, to its end."""
    return subprocess.run(
        attach_command(target.pid, trace, *options),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, **(variables or {})},
        check=False,
    )


@contextmanager
def attaching(target: Target, trace: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The same, once the process is recorded; it is interrupted in the end, if it still runs."""
    process = subprocess.Popen(
        attach_command(target.pid, trace, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        told = process.stderr.readline()
        assert "is recorded; Ctrl-C" in told, told
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)


def is_recorded(pid: int) -> bool:
    """Whether it has a recording's rings mapped."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
    return bool(re.search(r"/gilscope-[0-9a-f]{12}/rings", maps))


def wait_until(condition: Callable[[], bool]) -> None:
    """Looks every few milliseconds, and fails after DEADLINE_S."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it does not come to pass"
        time.sleep(0.01)
