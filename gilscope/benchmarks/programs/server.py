"""The test server: a socketserver whose requests are served by a pool of threads.

Told `{"cpu": n}` it answers when n threads compute; told `{"cpu": 0}` it stops them and answers how
many turns of their loop they made a second.
"""

from __future__ import annotations

import json
import queue
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

PAGE = b"<p>" + b"x" * 1000 + b"</p>\n"


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the same page."""

    def do_GET(self) -> None:
        """Send the page."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class PoolServer(socketserver.TCPServer):
    """Hands each connection to a pool of threads by a queue."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, n_threads: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._requests: queue.Queue[tuple[Any, Any]] = queue.Queue()  # connection, address
        for _ in range(n_threads):
            threading.Thread(target=self._serve, daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Called by the thread that accepts."""
        self._requests.put((request, client_address))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report it, unless the client hung up."""
        kind = sys.exc_info()[0]
        if kind is None or not issubclass(kind, ConnectionError):  # ab hangs up when its time ends
            super().handle_error(request, client_address)

    def _serve(self) -> None:
        while True:
            request, client_address = self._requests.get()
            try:
                self.finish_request(request, client_address)
            except Exception:
                self.handle_error(request, client_address)
            finally:
                self.shutdown_request(request)


class Spinner:
    """A thread that computes until it is told to stop; it times itself."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._stop = False
        self._thread = threading.Thread(target=self._compute, daemon=True)  # ends with the input
        self._thread.start()

    def stop(self) -> float:
        """Its turns a second."""
        self._stop = True
        self._thread.join()
        return self.rate

    def _compute(self) -> None:
        number = turns = 0
        start = time.monotonic()
        while not self._stop:
            for _ in range(200):
                number = (number * 31 + 7) % 65537
            turns += 1
        self.rate = turns / (time.monotonic() - start)


def main() -> None:
    """Serve, at a port each for pools of as many threads as the arguments say."""
    ports = {}
    for size in sys.argv[1:]:
        server = PoolServer(int(size))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ports[size] = server.server_address[1]
    print(json.dumps({"ports": ports}), flush=True)
    spinners: list[Spinner] = []
    for line in sys.stdin:
        answer = {"computed": sum(spinner.stop() for spinner in spinners)}
        spinners = [Spinner() for _ in range(json.loads(line)["cpu"])]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
