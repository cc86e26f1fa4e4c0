"""The outer half of `pytest --gilscope`: run pytest recorded, then read its trace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gilscope.errors import GilscopeError, UsageError
from gilscope.integrations.pytest_plugin import NOTES

if TYPE_CHECKING:
    import pytest

    from gilscope.analysis.bounds import Bound
    from gilscope.analysis.part import Parts
    from gilscope.trace.model import Trace

MOST_ROWS = 10
WORTH_NS = 1_000_000  # of waiting in a test, from which it is worth a line
TESTS_FAILED = 1  # pytest's exit code
USAGE_ERROR = 4


@dataclass(frozen=True)
class Note:
    """One test as the inner pytest saw it; times are CLOCK_MONOTONIC ns."""

    test: str
    pid: int
    start_ns: int
    end_ns: int
    failed: bool
    max: dict[str, Any]


def run(config: pytest.Config) -> int:
    """Returns the exit code of the inner pytest, or 1 where it was 0 and a bound is broken."""
    from gilscope.analysis.bounds import parsed  # noqa: PLC0415

    try:
        bounds = [parsed(text) for text in config.option.gilscope_max]
    except UsageError as error:
        print(f"gilscope: {error}", file=sys.stderr)
        return USAGE_ERROR
    with tempfile.TemporaryDirectory(prefix="gilscope-pytest-") as name:
        folder = Path(name)
        trace = folder / "pytest.pftrace"
        command = [sys.executable, "-m", "gilscope", "record", "--quiet", "-o", str(trace)]
        command += ["--", sys.executable, "-m", "pytest", *map(str, config.invocation_params.args)]
        code = subprocess.run(
            command,
            cwd=config.invocation_params.dir,
            env={**os.environ, NOTES: str(folder)},
            check=False,
        ).returncode
        try:
            broken = _report(trace, _notes(folder), bounds)
        except GilscopeError as error:
            print(f"gilscope: {error}", file=sys.stderr)
            return code or TESTS_FAILED
        if (code or broken) and trace.exists():
            print(f"gilscope: the trace is {_kept(trace, Path(config.option.gilscope_traces))}")
    return code or (TESTS_FAILED if broken else 0)


def _notes(folder: Path) -> list[Note]:
    notes = [
        Note(**json.loads(line))
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return sorted(notes, key=lambda note: note.start_ns)


def _kept(trace: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while (place := folder / f"pytest-{number}.pftrace").exists():
        number += 1
    shutil.move(trace, place)
    return place


def _report(path: Path, notes: list[Note], bounds: list[Bound]) -> int:
    """Prints the table and the broken bounds; returns how many are broken."""
    import gilscope  # noqa: PLC0415 - numpy
    from gilscope.analysis.part import Parts  # noqa: PLC0415
    from gilscope.analysis.sites import sites_of  # noqa: PLC0415

    if not path.exists():
        raise GilscopeError("the run left no trace, so nothing is known of its tests")
    trace = gilscope.read(path)
    parts = Parts(trace, sites_of(trace))
    rows = [(note, parts.threads(note.pid, note.start_ns, note.end_ns)) for note in notes]
    _table(trace, parts, rows)
    return _broken(trace, rows, bounds)


def _table(trace: Trace, parts: Parts, rows: list[tuple[Note, list[dict[str, Any]]]]) -> None:
    """The tests in which one thread waited longest, and for whom."""
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from gilscope.analysis.part import worst_waiter  # noqa: PLC0415
    from gilscope.analysis.places import place  # noqa: PLC0415
    from gilscope.analysis.sites import sites_of  # noqa: PLC0415
    from gilscope.analysis.units import counted, duration, escaped, percent  # noqa: PLC0415
    from gilscope.viewers.layout import Column, lines, show, table  # noqa: PLC0415

    console = Console(highlight=False)
    found = [(note, worst) for note, threads in rows if (worst := worst_waiter(threads))]
    found = [entry for entry in found if entry[1]["waiting_ns"] >= WORTH_NS]
    found.sort(key=lambda entry: -entry[1]["waiting_ns"])
    total = counted(len(rows), "test")
    if not found:
        show(console, Text(f"gilscope: in none of {total} a thread waited 1 ms for the GIL"))
        return
    sites = sites_of(trace)
    causes = []
    for note, worst in found[:MOST_ROWS]:
        (thread, site), _ = (
            parts.held_by(worst["id"], note.start_ns, note.end_ns).most_common(1) or [((-1, 0), 0)]
        )[0]
        whom = escaped(trace.metadata.threads[thread].name) if thread >= 0 else "(the GIL was free)"
        where = sites.json(site)
        causes.append(f"{whom} {place(where)}" if where else whom)
    shown = found[:MOST_ROWS]
    names = Column("test", [escaped(note.test) for note, _ in shown], left=True)
    columns = [
        Column("thread", [escaped(worst["name"]) for _, worst in shown], left=True),
        Column("waited", [duration(worst["waiting_ns"]) for _, worst in shown]),
        Column("share", [percent(worst["waiting_ns"], worst["life_ns"]) for _, worst in shown]),
        Column("for", causes, left=True),
    ]
    show(console, Text(f"\nwaiting for the GIL, the worst of {total}:"))
    made = table(names, columns, console.width, "…")
    for part in [made] if made else lines(names, columns):
        show(console, part)


def _broken(
    trace: Trace, rows: list[tuple[Note, list[dict[str, Any]]]], bounds: list[Bound]
) -> int:
    from gilscope.analysis.bounds import held_against, named  # noqa: PLC0415
    from gilscope.analysis.units import escaped  # noqa: PLC0415

    broken = 0
    for note, threads in rows:
        # A bound for a thread by name is of the tests that have such a thread.
        summary = {"lost_events": trace.metadata.lost_events, "processes": [{"threads": threads}]}
        mine = [named(name, value) for name, value in note.max.items()]
        for bound, must in [*((b, False) for b in bounds), *((b, True) for b in mine)]:
            try:
                verdicts = [*held_against([bound], summary, note.test)]
            except UsageError as error:
                if not must:
                    continue
                print(f"gilscope: {error}")
                broken += 1
                continue
            for verdict in verdicts:
                if verdict.why:
                    print(escaped(f"gilscope: {note.test}: {verdict.thread}: {verdict.why}"))
                    broken += 1
    return broken
