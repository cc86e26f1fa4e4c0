"""Serves counters over HTTP in Prometheus's text format, in threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from gilscope.errors import GilscopeError, UsageError
from gilscope.live.families import exposition
from gilscope.live.totals import Group

_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PATIENCE_S = 10.0  # with who connects and asks for nothing


class Address(NamedTuple):
    """Where to listen; port 0: any that is free."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Of `9464`, `0.0.0.0:9464`, `[::1]:9464`; without a host this machine alone. Raises
        UsageError.
        """
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
        if not port.isdecimal() or int(port) > 65535:
            raise UsageError(f"--listen takes [HOST:]PORT, not {text}")
        return cls(host, int(port))


class Server:
    """Listens from its making on, and answers from `serve` on. Use it in `with`."""

    def __init__(self, address: Address) -> None:
        """Raises UsageError where it cannot listen there."""
        handler = type("Handler", (_Handler,), {"server_of": self})
        kind = _Server6 if ":" in address.host else _Server
        try:
            self._server = kind((address.host, address.port), handler)
        except OSError as error:
            raise UsageError(
                f"cannot listen on {address.host}:{address.port}: {error.strerror or error}; "
                "name another place with --listen [HOST:]PORT"
            ) from error
        self.groups: Callable[[], list[Group]] = list
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """What to name to Prometheus."""
        host, port = self._server.server_address[:2]
        name = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{name}:{port}/metrics"

    def serve(self, groups: Callable[[], list[Group]]) -> None:
        """Answer; `groups` is called from several threads, one at a time."""
        self.groups = groups
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="gilscope-metrics", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    address_family = AF_INET
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: who asked has gone."""


class _Server6(_Server):
    address_family = AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server_of: Server
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path.split("?")[0] not in ("/metrics", "/"):
            self._answer(HTTPStatus.NOT_FOUND, "the counters are at /metrics\n")
            return
        try:
            self._answer(HTTPStatus.OK, exposition(self.server_of.groups()))
        except GilscopeError as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n")

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: HTTPStatus, text: str) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", _TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal is the program's."""
