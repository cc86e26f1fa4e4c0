"""Reports and other applications' pages in a browser; axe-core judges whether all can read them."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait
from support.browser import LIMIT_S

PACKAGES = Path(__file__).parents[2] / "build" / "browser" / "node_modules"


def package(name: str) -> Path:
    """The folder of an npm package of tests/browser/package.json."""
    folder = PACKAGES / name
    assert folder.is_dir(), (
        f"{name} is not installed: make test (or make {PACKAGES}/.package-lock.json)"
    )
    return folder


class ReportPage:
    """A report that is open in the browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(
        self, path: Path, *, scheme: str = "light", media: str = "screen", width: int = 1600
    ) -> None:
        """Open it from its file; return when all charts are drawn."""
        self.emulate(scheme=scheme, media=media, width=width)
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.driver.get(path.as_uri())
        self.until("return document.documentElement.dataset.drawn === 'all'")

    def emulate(self, *, scheme: str = "light", media: str = "screen", width: int = 1600) -> None:
        """Light or dark, screen or print, and how wide."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": features}
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False},
        )

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript and give what it returns."""
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, *arguments: object) -> None:
        """Wait until it is true."""
        WebDriverWait(self.driver, LIMIT_S, poll_frequency=0.05).until(
            lambda driver: driver.execute_script(script, *arguments)
        )

    def requests(self) -> set[str]:
        """Addresses that the page asked for since it was opened."""
        events = (
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        )
        return {
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        }

    def complaints(self) -> list[str]:
        """What the console has, warnings included."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def inaccessible(self) -> list[str]:
        """What axe-core finds, serious or worse."""
        self.run((package("axe-core") / "axe.min.js").read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            """
            const done = arguments[0];
            const more = "tbody tr:nth-child(n + 20)"; // rows of long tables, which are all alike
            axe.run({exclude: document.querySelector(more) ? [more] : []})
                .then((result) => done(result.violations));
            """
        )
        return [
            f"{rule['id']}: {rule['nodes'][0]['html'][:200]}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
        ]


class _Files(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any, files: dict[str, Path], **options: Any) -> None:
        self._files = files
        super().__init__(*arguments, **options)

    def translate_path(self, path: str) -> str:
        return str(self._files.get(path) or super().translate_path(path))

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def served(folder: Path, files: dict[str, Path]) -> Iterator[str]:
    """A folder's files, and others by their path, on an address of this machine."""
    handler = functools.partial(_Files, directory=str(folder), files=files)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
