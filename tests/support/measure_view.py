"""From which size on Perfetto's UI fails: `python -m support.measure_view MILLIONS…` in tests/.

Opens synthetic traces of so many million events offline in a real browser, one browser each, and
prints a row of docs/results/view.md for each.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from selenium.common.exceptions import WebDriverException
from support.browser import chromium

from gilscope.benchmarks.synthetic import SyntheticSource
from gilscope.perfetto.writer import write_trace
from gilscope.viewers.perfetto_ui import offline_server, ui_url

LIMIT_S = 400
STATE = """
    if (window.app?.trace?.engine) return "opened";
    const failure = document.querySelector(".pf-error-modal, .modal-dialog, .pf-modal-dialog");
    return failure ? "failed: " + failure.innerText.slice(0, 300) : "";
"""


def opened(path: Path) -> tuple[str, float]:
    """What came of it, and after how many seconds."""
    server = offline_server(path)
    begin = time.monotonic()
    with server.running(), chromium() as driver:
        driver.set_page_load_timeout(LIMIT_S)
        try:
            driver.get(ui_url(server.url, server.trace_url, None))
            while time.monotonic() - begin < LIMIT_S:
                if state := driver.execute_script(STATE):
                    return " ".join(str(state).split()), time.monotonic() - begin
                time.sleep(0.5)
        except WebDriverException as error:
            return f"the page died: {(error.msg or '').splitlines()[0]}", time.monotonic() - begin
    return "not opened", time.monotonic() - begin


def main() -> None:
    """Print the rows."""
    print("| events | file | what came of it | after |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.pftrace")
        for millions in map(float, sys.argv[1:]):
            write_trace(SyntheticSource(int(millions * 1e6)), path)
            state, seconds = opened(path)
            size = path.stat().st_size / 1e6
            print(f"| {millions:g} M | {size:,.0f} MB | {state} | {seconds:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
