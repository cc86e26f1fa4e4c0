"""Makes docs/pictures: `python -m support.make_pictures FOLDER` in tests/, or `make pictures`.

All are made of the two traces that lie beside them. A trace that is not there is recorded anew, by
the distribution's Python in a folder of its own, so that it names nobody's.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from selenium import webdriver
from support.browser import chromium, perfetto_page
from support.pages import ReportPage
from support.pictures import with_source
from support.recorded import GILSCOPE

import gilscope
from gilscope.analysis.summary import summarise
from gilscope.viewers import perfetto_ui, perfetto_ui_start, terminal
from gilscope.viewers.perfetto_ui_focus import Focus

PROGRAM = Path(__file__).parents[2] / "examples" / "echo_server.py"
POLICIES = ("classic", "io-priority")
COLUMNS = 80  # of the terminal
VISIBLE_NS = 40_000_000  # of the timeline
_REPORT_WIDTH, _REPORT_PART = 1100, ("timeline", "lives")
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # rich would fetch them from a server


def trace_of(folder: Path, policy: str) -> Path:
    """The trace of the example under a policy; recorded where it is not there."""
    path = folder / f"{policy}.pftrace.gz"
    if not path.exists():
        place = Path(tempfile.gettempdir(), "examples")
        place.mkdir()
        try:
            shutil.copy(PROGRAM, place)
            command = [*GILSCOPE, "record", "--quiet", "--policy", policy, "-o", str(path)]
            subprocess.run(
                [*command, "--", "python3", PROGRAM.name],
                cwd=place,
                env={**os.environ, "PATH": "/usr/bin:/bin"},
                check=True,
            )
        finally:
            shutil.rmtree(place)
    return path


def terminal_picture(trace: Path) -> str:
    """What `gilscope summary` prints, as SVG."""
    console = Console(
        file=io.StringIO(), record=True, width=COLUMNS, force_terminal=True, highlight=False
    )
    console.print(terminal.view(summarise(gilscope.read(trace)), COLUMNS, None, "█▒·?…"))
    made = console.export_svg(title=f"gilscope summary {trace.name}", unique_id="summary")
    return _FONTS.sub("", made)


def timeline(trace: Path) -> bytes:
    """Some milliseconds of the server's process in Perfetto's UI, as PNG."""
    model = gilscope.read(trace)
    left = model.metadata.start_ns + (model.metadata.end_ns - model.metadata.start_ns) // 2
    holds = model.holds[model.holds["start_ns"] > left]
    start, end = (int(holds[0][name]) for name in ("start_ns", "end_ns"))
    focus = Focus(start, end - start, left, left + VISIBLE_NS)
    server = perfetto_ui.offline_server(trace)
    commands = perfetto_ui_start.commands(model)
    with server.running(), perfetto_page() as page:
        page.open(perfetto_ui.ui_url(server.url, server.trace_url, focus, commands))
        page.run("window.app.trace.selection.clearSelection(); await waitForPerfettoIdle(500)")
        tracks = page.tracks()
        server_top, client_top = sorted(
            place for title, place in tracks.items() if title.startswith("python3 ")
        )
        return _clip(page.driver, top=server_top[0], bottom=client_top[0], width=server_top[2])


def report_picture(trace: Path) -> bytes:
    """The timeline of `gilscope report`, as PNG."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        subprocess.run([*GILSCOPE, "report", str(trace), "-o", str(page)], check=True)
        with chromium("--use-angle=swiftshader", "--enable-unsafe-swiftshader") as driver:
            ReportPage(driver).open(page, width=_REPORT_WIDTH)
            top, bottom = (
                driver.execute_script(
                    "return document.getElementById(arguments[0]).getBoundingClientRect().top", name
                )
                for name in _REPORT_PART
            )
            return _clip(driver, top=int(top), bottom=int(bottom), width=_REPORT_WIDTH)


def _clip(driver: webdriver.Chrome, *, top: int, bottom: int, width: int) -> bytes:
    clip = {"x": 0, "y": top, "width": width, "height": bottom - top, "scale": 1}
    options = {"format": "png", "clip": clip, "captureBeyondViewport": True}
    return base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"])


def main() -> None:
    """Write all of them."""
    folder = Path(sys.argv[1]).resolve()
    traces = {policy: trace_of(folder, policy) for policy in POLICIES}
    classic = traces["classic"]
    (folder / "summary.svg").write_text(terminal_picture(classic), encoding="utf-8")
    (folder / "report.png").write_bytes(with_source(report_picture(classic), classic))
    for policy, trace in traces.items():
        (folder / f"{policy}.png").write_bytes(with_source(timeline(trace), trace))


if __name__ == "__main__":
    main()
