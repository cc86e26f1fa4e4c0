"""What a build says while it runs: a bar on a terminal, a line a step elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import TaskID


class Progress(Protocol):
    """A build tells it which step it is in and how far it is."""

    def step(self, name: str) -> None:
        """A step begins; the one before has ended."""

    def expect(self, total: int) -> None:
        """How far this step goes; 0: not known."""

    def advance(self, amount: int) -> None:
        """By how much it came nearer."""

    def say(self, line: str) -> None:
        """Something to know that is no error."""

    def finish(self) -> None:
        """The last step has ended well."""

    def close(self) -> None:
        """The build has ended, well or not."""


class Lines:
    """One line a step on standard error."""

    def step(self, name: str) -> None:
        """Print it."""
        self.say(name)

    def expect(self, total: int) -> None:
        """A line does not tell how far."""

    def advance(self, amount: int) -> None:
        """A line does not tell how far."""

    def say(self, line: str) -> None:
        """Print it."""
        print(f"gilscope: {line}", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """The path of what was built follows."""

    def close(self) -> None:
        """Every line is printed already."""


class Bar:
    """A bar a step on standard error, which is a terminal; those of past steps stay."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - heavy
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as Bars  # noqa: PLC0415

        self._bars = Bars(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._bars.start()
        self._last: TaskID | None = None

    def step(self, name: str) -> None:
        """Begin another bar, which moves without an end until `expect`."""
        self.finish()
        self._last = self._bars.add_task(name, total=None)

    def expect(self, total: int) -> None:
        """Give the bar its end."""
        if self._last is not None:
            self._bars.update(self._last, total=total or None)

    def advance(self, amount: int) -> None:
        """Move the bar."""
        if self._last is not None:
            self._bars.update(self._last, advance=amount)

    def say(self, line: str) -> None:
        """Print it above the bars."""
        self._bars.console.print(line, markup=False, highlight=False)

    def finish(self) -> None:
        """Fill the bar."""
        if self._last is not None:
            self._bars.update(self._last, total=1, completed=1)

    def close(self) -> None:
        """Leave the bars as they stand."""
        self._bars.stop()


def progress() -> Progress:
    """What suits standard error."""
    return Bar() if sys.stderr.isatty() else Lines()
