"""Every host again and again, on every interpreter, alone, recorded and scheduled.

    cd tests && python -m hosts.rounds [--rounds N] [--table FILE] [--only WORD]…

Writes a table: how often each ended as it does alone, and its trace was whole. `make test-hosts`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from support import interpreters

from gilscope.errors import GilscopeError
from hosts import cases

PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", interpreters.DEBIAN, interpreters.PLUS)


class Row(NamedTuple):
    """What came of one host in one way on one interpreter."""

    host: str
    interpreter: str
    way: str
    good: int
    of: int
    trouble: str


def main() -> int:
    """Returns 1 where a host ended otherwise than alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--only", action="append", default=[])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gilscope-hosts-") as name:
        hosts = list(_hosts(Path(name)))
        hosts = [it for it in hosts if all(word in f"{it[0]} {it[1].name}" for word in args.only)]
        begin = time.monotonic()
        with ThreadPoolExecutor(args.jobs) as pool:
            results = list(pool.map(lambda it: _rounds(Path(name), *it, args.rounds), hosts))
        minutes = (time.monotonic() - begin) / 60
    rows = [row for result in results for row in result]
    bad = [row for row in rows if row.good < row.of]
    if args.table:
        args.table.write_text(_page(rows, args.rounds, minutes), encoding="utf-8")
    print(f"{sum(row.good for row in rows)} of {sum(row.of for row in rows)} ended as alone")
    return 1 if bad else 0


def _hosts(folder: Path) -> Iterator[tuple[str, cases.Host]]:
    """What runs on which interpreter; queues in all their mutations on one."""
    for name in PYTHONS:
        try:
            python = interpreters.path(name)
        except LookupError as missing:
            print(missing, file=sys.stderr)
            continue
        made = folder / name
        made.mkdir()
        for host in cases.python_hosts(python, made):
            yield name, host
        for library in cases.libraries(python):
            queues = cases.all_queues() if (name, library) == ("3.13", "static") else cases.QUEUES
            for host in cases.embedding_hosts(python, library, made, queues):
                yield f"{name} {library}", host


def _rounds(folder: Path, interpreter: str, host: cases.Host, rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        alone = cases.run(host, (), work)
        rows = []
        for way, words in cases.WAYS.items():
            good, trouble = 0, "" if alone.code == 0 else f"alone: {alone}"
            for _ in range(rounds):
                outcome = cases.run(host, words, work)
                wrong = _wrong(outcome, alone, work if words == cases.RECORD else None)
                good += not wrong
                trouble = trouble or wrong
            rows.append(Row(host.name, interpreter, way, good, rounds, trouble))
            print(f"{interpreter}: {host.name}, {way}: {good} of {rounds} {trouble}", flush=True)
        return rows


def _wrong(outcome: cases.Outcome, alone: cases.Outcome, work: Path | None) -> str:
    if outcome != alone:
        return f"{outcome} and alone {alone}"
    if work is not None:
        import gilscope  # noqa: PLC0415

        try:
            trace = gilscope.read(work / "trace.pftrace")
        except GilscopeError as error:
            return str(error)
        if trace.metadata.lost_events or not trace.totals.events:
            return f"{trace.totals.events} events, {trace.metadata.lost_events} lost"
    return ""


def _page(rows: list[Row], rounds: int, minutes: float) -> str:
    columns = list(dict.fromkeys(row.interpreter for row in rows))
    names = list(dict.fromkeys(_kind(row.host) for row in rows))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    lines = [
        "# Hosts: programs that must run as they do alone",
        "",
        f"Of {rounds} rounds each under `record` and under `run --policy io-priority`, how many"
        " ended with the exit code, the output and the errors of the program alone, and, where it"
        " was recorded, left a whole trace. `tests/hosts/cases.py` has the programs; a row of"
        " queues has several mutations. Made by `make test-hosts`"
        f" at {commit}, {os.cpu_count()} processors, {minutes:.0f} minutes.",
        "",
        "| host | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name in names:
        cells = []
        for column in columns:
            its = [r for r in rows if _kind(r.host) == name and r.interpreter == column]
            cells.append(f"{sum(r.good for r in its)}/{sum(r.of for r in its)}" if its else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        *[f"- {r.interpreter}, {r.host}, {r.way}: {r.trouble}" for r in rows if r.trouble],
    ]
    return "\n".join(lines).rstrip() + "\n"


def _kind(host: str) -> str:
    words = host.split()
    return f"queue, {words[1]}, {words[5]}" if words[0] == "queue" else host


if __name__ == "__main__":
    sys.exit(main())
