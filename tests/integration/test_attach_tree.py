"""gilscope attach to servers that fork their workers before they serve: no request fails."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import interpreters
from support.attached import attach, is_recorded, running, wait_until

from gilscope.perfetto.reader import open_trace

# A master that waits for its input's end; four workers of three threads, one of which computes.
SERVER = """
import os, signal, socket, sys, threading, time
listener = socket.create_server(("127.0.0.1", 0), backlog=128)
def serve():
    while True:
        connection = listener.accept()[0]
        with connection:
            connection.sendall(connection.recv(64).upper())
def compute():
    while True: sum(range(1000))
master, workers = os.getpid(), []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        for work in (serve, serve, compute): threading.Thread(target=work, daemon=True).start()
        while os.getppid() == master: time.sleep(0.02)
        os._exit(1)
    workers.append(pid)
print("ready", flush=True)
print(listener.getsockname()[1], *workers, flush=True)
sys.stdin.read()
for pid in workers: os.kill(pid, signal.SIGKILL)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers]
print("fine" if codes == [-9] * 4 else codes, flush=True)
"""


@contextmanager
def requests(port: int) -> Iterator[list[int]]:
    """One after another from two threads; how many were answered. Fails where one was not."""
    over, done, wrong = threading.Event(), [0, 0], []

    def ask(number: int) -> None:
        try:
            while not over.is_set():
                with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                    connection.sendall(b"hello")
                    assert connection.recv(64) == b"HELLO"
                done[number] += 1
        except (OSError, AssertionError) as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("python", ["3.9", "3.13", interpreters.PLUS])
def test_master_and_worker_while_they_serve(python: str, tmp_path: Path) -> None:
    traces = {which: tmp_path / f"{which}.pftrace" for which in ("master", "worker")}
    with running(interpreters.path(python), SERVER) as server:
        port, *workers = map(int, server.line().split())
        with requests(port) as answered:
            done = attach(server, traces["master"], "-d", "2")
            assert done.returncode == 0, done.stderr
            before = list(answered)
            wait_until(lambda: all(now > then for now, then in zip(answered, before, strict=True)))
            server.pid = workers[0]
            done = attach(server, traces["worker"], "-d", "0.5")
            assert done.returncode == 0, done.stderr
        assert not any(is_recorded(pid) for pid in workers)
        server.pid = server.process.pid
        assert server.end() == (0, "fine\n")
    # Nobody takes the GIL in the master, which waits for its input.
    assert {one.pid for one in open_trace(traces["master"]).metadata.processes} == {*workers}
    (one,) = open_trace(traces["worker"]).metadata.processes
    assert (one.pid, one.attached) == (workers[0], True)
