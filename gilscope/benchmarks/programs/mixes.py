"""Programs whose work is fixed, run under other tools: `mixes.py NAME AMOUNT`.

The last line that it prints is JSON: how long the work took, and how often one thread handed the
GIL to another in it, where that follows from the program.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time


def ping_pong(amount: int) -> tuple[float, int | None]:
    """Two threads that take turns by two locks, on one processor: on two, a turn takes from a few
    microseconds to a hundred, as the kernel places them."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    there, back = threading.Lock(), threading.Lock()
    there.acquire()
    back.acquire()

    def answer() -> None:
        for _ in range(amount):
            there.acquire()
            back.release()

    thread = threading.Thread(target=answer, name="answer")
    thread.start()
    start = time.perf_counter()
    for _ in range(amount):
        there.release()
        back.acquire()
    seconds = time.perf_counter() - start
    thread.join()
    return seconds, 2 * amount


def echo(amount: int) -> tuple[float, int | None]:
    """Requests to an echo thread, beside a thread that computes. A pause stands before each, as
    clients make it: without one the convoy comes and goes by chance."""
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def serve() -> None:
        while request := theirs.recv(64):
            theirs.sendall(request)

    def spin() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(1000):
                number = (number * 31 + 7) % 65537

    threads = [threading.Thread(target=target, name=target.__name__) for target in (serve, spin)]
    for thread in threads:
        thread.start()
    seconds = 0.0
    for _ in range(amount):
        time.sleep(0.001)
        start = time.perf_counter()
        ours.sendall(b"hello")
        ours.recv(64)
        seconds += time.perf_counter() - start
    stop.set()
    ours.close()
    for thread in threads:
        thread.join()
    theirs.close()
    return seconds, None


def numpy_mix(amount: int) -> tuple[float, int | None]:
    """Threads that multiply matrices, and compute in Python between."""
    import numpy as np  # noqa: PLC0415 - of this program alone

    def work() -> None:
        matrix = np.ones((96, 96))
        for _ in range(amount):
            matrix = matrix @ matrix / 96
            sum(range(2000))

    threads = [threading.Thread(target=work, name=f"mix-{n}") for n in range(3)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start, None


def web_server(amount: int) -> tuple[float, int | None]:
    """Pages of a web server with a thread a connection, ten at a time, loaded by ab."""
    import re  # noqa: PLC0415 - of this program alone
    import subprocess  # noqa: PLC0415
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: PLC0415

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            rows = [{"row": row, "text": str(row) * 8} for row in range(100)]
            page = json.dumps(rows).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # fewer, and a client waits a second to connect

    with Server(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="accept")
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        done = subprocess.run(
            ["ab", "-q", "-n", str(amount), "-c", "10", url],
            capture_output=True,
            text=True,
            check=True,
        )
        server.shutdown()
        thread.join()
    seconds = re.search(r"Time taken for tests: +([0-9.]+)", done.stdout)
    failed = re.search(r"Failed requests: +0$", done.stdout, re.MULTILINE)
    if seconds is None or failed is None:
        sys.exit(f"ab: {done.stdout}")
    return float(seconds[1]), None


PROGRAMS = {
    "ping-pong": ping_pong,
    "echo + 1 CPU": echo,
    "web server": web_server,
    "numpy mix": numpy_mix,
}

if __name__ == "__main__":
    took, handed = PROGRAMS[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps({"seconds": took, "handed": handed}), flush=True)
