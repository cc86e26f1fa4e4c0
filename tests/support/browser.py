"""A real browser: Debian's chromium, headless, driven by selenium; and Perfetto's UI in it."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM = Path("/usr/bin/chromium")
CHROMEDRIVER = Path("/usr/bin/chromedriver")
WIDTH, HEIGHT = 1600, 1250
LIMIT_S = 120  # of any one state; a busy machine takes a while

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--window-size={WIDTH},{HEIGHT}",
)


class PerfettoPage:
    """A trace that is open in the UI."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Go to `url` and return when the trace is loaded, drawn, and nothing is under way."""
        self.driver.get(url)
        WebDriverWait(self.driver, LIMIT_S).until(
            lambda driver: driver.execute_script("return Boolean(window.app?.trace?.engine)")
        )
        self.run("await waitForPerfettoIdle(500)")

    def run(self, body: str, *arguments: object) -> Any:
        """Run JavaScript that may await and must return JSON; its failure is an AssertionError."""
        result = self.driver.execute_async_script(
            f"""
            const done = arguments[arguments.length - 1];
            (async (...args) => {{ {body} }})(...arguments).then(
                (value) => done({{value}}),
                (error) => done({{error: String(error)}}),
            );
            """,
            *arguments,
        )
        assert "error" not in result, result["error"]
        return result.get("value")

    def query(self, sql: str) -> list[list[Any]]:
        """The rows of a query in the engine of the page; integers come as int."""
        rows: list[list[Any]] = self.run(
            """
            const result = await window.app.trace.engine.query(args[0]);
            const rows = [];
            for (const row = result.iter({}); row.valid(); row.next()) {
                rows.push(result.columns().map((name) => {
                    const value = row.get(name);
                    return typeof value === "bigint" ? Number(value) : value;
                }));
            }
            return rows;
            """,
            sql,
        )
        return rows

    def selected(self) -> dict[str, Any]:
        """The selection; times in ns."""
        found: dict[str, Any] = self.run(
            """
            return JSON.parse(JSON.stringify(
                window.app.trace.selection.selection,
                (_, value) => typeof value === "bigint" ? Number(value) : value,
            ));
            """
        )
        return found

    def details(self, slice_id: int) -> list[str]:
        """The lines that the panel shows of a slice that is clicked on."""
        text: str = self.run(
            """
            window.app.trace.selection.selectSqlEvent("slice", args[0], {
                switchToCurrentSelectionTab: true,
            });
            await waitForPerfettoIdle(500);
            return document.querySelector(".pf-details-shell").innerText;
            """,
            slice_id,
        )
        menu = "arrow_drop_down"  # an icon's name
        return [line.removesuffix(menu) for line in text.splitlines()]

    def visible_ns(self) -> tuple[int, int]:
        """Begin and end of the stretch that the timeline shows."""
        begin, end = self.run(
            """
            const span = window.app.trace.timeline.visibleWindow.toTimeSpan();
            return [Number(span.start), Number(span.end)];
            """
        )
        return begin, end

    def console_errors(self) -> list[str]:
        """What the page complained about since the last call."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE"
        ]

    def tracks(self) -> dict[str, tuple[int, int, int]]:
        """The tracks on the page, by title: y of its top, x of the canvas' left and right side."""
        found: dict[str, tuple[int, int, int]] = self.run(
            """
            return Object.fromEntries([...document.querySelectorAll(".pf-track")].map((track) => {
                const title = track.querySelector(".pf-track__title-popup").innerText;
                const box = track.querySelector(".pf-track__canvas").getBoundingClientRect();
                const edges = [box.top, box.left, box.right].map(Math.round);
                return [title, edges];
            }));
            """
        )
        return found

    def screenshot(self, path: Path) -> None:
        """Write what the window shows to a PNG."""
        assert self.driver.save_screenshot(str(path))

    def colours(self, png: Path, y: int, left: int, right: int) -> list[str]:
        """The colours of one line of a screenshot, from left to right, as rrggbb."""
        found: list[str] = self.run(
            """
            const [png, y, left, right] = args;
            const image = new Image();
            image.src = "data:image/png;base64," + png;
            await image.decode();
            const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
            context.drawImage(image, 0, 0);
            const pixels = context.getImageData(left, y, right - left, 1).data;
            const hex = (number) => number.toString(16).padStart(2, "0");
            return Array.from({length: right - left}, (_, x) =>
                [...pixels.slice(4 * x, 4 * x + 3)].map(hex).join(""));
            """,
            base64.b64encode(png.read_bytes()).decode(),
            y,
            left,
            right,
        )
        return found


@contextmanager
def perfetto_page() -> Iterator[PerfettoPage]:
    """A browser for Perfetto's UI; it ends with the block."""
    with chromium() as driver:
        yield PerfettoPage(driver)


@contextmanager
def chromium(*flags: str) -> Iterator[webdriver.Chrome]:
    """Start a browser with a profile of its own; it ends with the block. The logs `browser` (its
    console) and `performance` (its requests among others) are kept."""
    for program in (CHROMIUM, CHROMEDRIVER):
        assert program.exists(), f"{program} is missing: apt-get install chromium chromium-driver"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*_FLAGS, *flags, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
        try:
            driver.set_script_timeout(LIMIT_S)
            yield driver
        finally:
            driver.quit()
