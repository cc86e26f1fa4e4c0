"""The server behind `gilscope view`, with a plain HTTP client in the page's place."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from support.faults import require_root

from gilscope.errors import GilscopeError, InstallationError
from gilscope.viewers import perfetto_ui
from gilscope.viewers.perfetto_ui import ONLINE_UI, TraceServer
from gilscope.viewers.perfetto_ui_focus import Focus

CONTENT = bytes(range(256)) * 4
MORE_THAN_BUFFERS_HOLD = 64 << 20
FROM_UI = {"Origin": ONLINE_UI}


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()


def ask(
    server: TraceServer,
    path: str | None = None,
    *,
    method: str = "GET",
    headers: dict[str, str] = FROM_UI,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        target = urlsplit(server.trace_url).path if path is None else path
        connection.request(method, target, headers=headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "a trace, naïve ☂ 100%.pftrace"
    path.write_bytes(CONTENT)
    (tmp_path / "secret").write_bytes(b"secret")
    return path


@pytest.fixture
def online(trace: Path) -> Iterator[TraceServer]:
    """As `online_server`, on a free port so that tests can run at the same time."""
    server = TraceServer(trace, origin=ONLINE_UI)
    with server.running():
        yield server


@pytest.fixture
def offline(trace: Path) -> Iterator[TraceServer]:
    server = perfetto_ui.offline_server(trace)
    with server.running():
        yield server


def test_the_ui_gets_the_trace_once(online: TraceServer) -> None:
    assert not online.loaded.is_set()
    answer = ask(online)
    assert (answer.status, answer.body) == (HTTPStatus.OK, CONTENT)
    assert answer.headers["Access-Control-Allow-Origin"] == ONLINE_UI
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert online.loaded.wait(30)
    again = ask(online)
    assert (again.status, again.body) == (HTTPStatus.GONE, b"")


def test_nothing_answers_after_the_end(trace: Path) -> None:
    server = TraceServer(trace, origin=ONLINE_UI)
    with server.running():
        ask(server)
    with pytest.raises(ConnectionRefusedError):
        ask(server)


@pytest.mark.parametrize("origin", [{}, {"Origin": "https://example.org"}, {"Origin": "null"}])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_no_other_origin(online: TraceServer, origin: dict[str, str], method: str) -> None:
    answer = ask(online, method=method, headers=origin)
    assert answer.status == HTTPStatus.FORBIDDEN
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert ask(online).status == HTTPStatus.OK


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", HTTPStatus.OK),
        ("127.0.0.1:9001", HTTPStatus.OK),
        ("LocalHost:80", HTTPStatus.OK),
        ("rebound.example.org:9001", HTTPStatus.FORBIDDEN),
        ("127.0.0.1.example.org", HTTPStatus.FORBIDDEN),
        ("127.0.0.1@example.org", HTTPStatus.FORBIDDEN),
        ("[", HTTPStatus.FORBIDDEN),
        ("", HTTPStatus.FORBIDDEN),
    ],
)
def test_only_loopback_names(
    online: TraceServer, offline: TraceServer, host: str, status: HTTPStatus
) -> None:
    assert ask(online, headers=FROM_UI | {"Host": host}).status == status
    assert ask(offline, "/", headers={"Host": host}).status == status


@pytest.mark.parametrize(
    "path", ["/", "/trace/", "/trace", "/secret", "/trace/secret", "/trace/../secret", "/status"]
)
def test_no_other_path(online: TraceServer, offline: TraceServer, path: str) -> None:
    assert ask(online, path).status == HTTPStatus.NOT_FOUND
    if path != "/":
        assert ask(offline, path).status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("path", ["/..", "/../viewer.py", "/%2e%2e/viewer.py", "/LICENSE/"])
def test_nothing_outside_the_ui(offline: TraceServer, path: str) -> None:
    assert ask(offline, path).status == HTTPStatus.NOT_FOUND


def test_folders_of_the_ui_are_not_listed(offline: TraceServer) -> None:
    folders = {name.rpartition("/")[0] for name in offline.files} - {""}
    assert folders
    for folder in folders:
        assert ask(offline, folder).status == HTTPStatus.NOT_FOUND
        assert ask(offline, folder + "/").status == HTTPStatus.NOT_FOUND


def test_the_path_of_the_trace_is_a_secret(trace: Path, offline: TraceServer) -> None:
    other = perfetto_ui.offline_server(trace)
    other.server_close()
    assert other.trace_path != offline.trace_path
    assert len(offline.trace_path.split("/")[2]) >= 32
    for path in (f"/trace/{trace.name}", f"/trace//{trace.name}", other.trace_path):
        assert ask(offline, quote(path)).status == HTTPStatus.NOT_FOUND
    assert ask(offline).status == HTTPStatus.OK


@pytest.mark.parametrize("name", ["Host", "Origin"])
def test_headers_that_come_twice(online: TraceServer, offline: TraceServer, name: str) -> None:
    for server in (online, offline):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        connection.putrequest("GET", urlsplit(server.trace_url).path, skip_host=True)
        for header in ("Host", "Origin", name):
            connection.putheader(header, "127.0.0.1" if header == "Host" else ONLINE_UI)
        connection.endheaders()
        assert connection.getresponse().status == HTTPStatus.BAD_REQUEST
        connection.close()


def test_a_browser_is_led_to_the_page(offline: TraceServer) -> None:
    path = urlsplit(offline.open_url).path
    assert ask(offline, path).status == HTTPStatus.FORBIDDEN  # it leads nowhere yet
    offline.page = "https://ui.example/#!/?url=secret"
    answer = ask(offline, path)
    assert (answer.status, answer.headers["Location"]) == (HTTPStatus.FOUND, offline.page)
    rebound = ask(offline, path, headers={"Host": "rebound.example.org"})
    assert rebound.status == HTTPStatus.FORBIDDEN


def test_another_user_is_led_nowhere(offline: TraceServer) -> None:
    require_root()
    offline.page = "https://ui.example/#!/?url=secret"
    code = (
        "import encodings.idna, http.client, os, sys; os.setuid(65534);"
        "c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]));"
        "c.request('GET', '/open'); print(c.getresponse().status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(offline.server_port)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == HTTPStatus.FORBIDDEN


def test_a_trace_that_was_removed(online: TraceServer, trace: Path) -> None:
    trace.unlink()
    with pytest.raises(http.client.RemoteDisconnected):
        ask(online)
    trace.write_bytes(CONTENT)
    assert ask(online).body == CONTENT


def test_there_is_no_trace_processor_on_the_port(online: TraceServer) -> None:
    answer = ask(online, "/status", method="POST")
    assert answer.status == HTTPStatus.NOT_FOUND


def test_preflight(online: TraceServer) -> None:
    asked = FROM_UI | {"Access-Control-Request-Method": "GET"}
    plain = ask(online, method="OPTIONS", headers=asked)
    assert plain.status == HTTPStatus.NO_CONTENT
    assert plain.headers["Access-Control-Allow-Origin"] == ONLINE_UI
    assert "GET" in plain.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Private-Network" not in plain.headers
    private = ask(
        online,
        method="OPTIONS",
        headers=asked | {"Access-Control-Request-Private-Network": "true"},
    )
    assert private.headers["Access-Control-Allow-Private-Network"] == "true"
    assert not online.loaded.is_set()


def test_head_is_not_a_load(online: TraceServer) -> None:
    answer = ask(online, method="HEAD")
    assert (answer.status, answer.body) == (HTTPStatus.OK, b"")
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert not online.loaded.is_set()


def test_a_range_gets_the_whole(online: TraceServer) -> None:
    """The UI never asks for one; RFC 9110 allows to ignore it, and half a load would be none."""
    answer = ask(online, headers=FROM_UI | {"Range": "bytes=0-9"})
    assert (answer.status, answer.body) == (HTTPStatus.OK, CONTENT)


def test_a_load_that_breaks_off_may_be_tried_again(online: TraceServer, trace: Path) -> None:
    os.truncate(trace, MORE_THAN_BUFFERS_HOLD)
    connection = http.client.HTTPConnection("127.0.0.1", online.server_port, timeout=30)
    connection.request("GET", urlsplit(online.trace_url).path, headers=FROM_UI)
    response = connection.getresponse()
    assert ask(online).status == HTTPStatus.GONE  # the first load still runs
    response.close()
    connection.close()
    assert online.ticket.acquire(timeout=30)
    online.ticket.release()
    assert not online.loaded.is_set()
    assert len(ask(online).body) == MORE_THAN_BUFFERS_HOLD


def test_silent_connections_do_not_block(online: TraceServer) -> None:
    """Browsers connect ahead of need."""
    silent = [
        http.client.HTTPConnection("127.0.0.1", online.server_port, timeout=30) for _ in range(8)
    ]
    for connection in silent:
        connection.connect()
    assert ask(online).body == CONTENT
    for connection in silent:
        connection.close()


def test_offline_page_may_load_again(offline: TraceServer) -> None:
    for _ in range(2):
        assert ask(offline, headers={}).body == CONTENT


def test_offline_ui_has_its_types_and_reaches_nothing_else(offline: TraceServer) -> None:
    types = {
        "/": "text/html; charset=utf-8",
        "frontend_bundle.js": "text/javascript",
        "trace_processor_memory64.wasm": "application/wasm",
        "perfetto.css": "text/css",
    }
    for path in offline.files:
        expected = types.get(path) or types.get(path.rpartition("/")[2])
        if expected:
            answer = ask(offline, path, method="HEAD", headers={})
            assert (answer.status, answer.headers["Content-Type"]) == (HTTPStatus.OK, expected)
            assert "http" not in answer.headers["Content-Security-Policy"]
            types = {k: v for k, v in types.items() if k not in (path, path.rpartition("/")[2])}
    assert not types, "files that the UI needs are not served"


def test_no_offline_ui(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InstallationError, match=r"pip install 'gilscope\[offline\]'"):
        perfetto_ui.offline_server(trace)


def test_port_in_use(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TraceServer(trace) as other:
        monkeypatch.setattr(perfetto_ui, "ONLINE_PORT", other.server_port)
        with pytest.raises(GilscopeError, match=f"port {other.server_port} .* in use"):
            perfetto_ui.online_server(trace)


def test_address() -> None:
    url = perfetto_ui.ui_url(
        "https://ui.example", "http://127.0.0.1:9001/trace/a%20b%25.pftrace", Focus(1, 2, 3, 4)
    )
    page, _, query = url.partition("/#!/?")
    assert page == "https://ui.example"
    assert " " not in url
    route = parse_qs(query, strict_parsing=True)
    assert route["url"] == ["http://127.0.0.1:9001/trace/a%20b%25.pftrace"]
    assert [route[key] for key in ("ts", "dur", "visStart", "visEnd")] == [
        ["1"],
        ["2"],
        ["3"],
        ["4"],
    ]
    assert "ts" not in parse_qs(perfetto_ui.ui_url("https://ui.example", "http://x/", None))


def test_no_text_browser_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert not perfetto_ui.open_browser("http://127.0.0.1:9/")
