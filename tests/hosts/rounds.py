"""Every host again and again, on every interpreter, alone, recorded and scheduled.

    cd tests && python -m hosts.rounds [--rounds N] [--minutes M] [--table FILE] [--only WORD]…

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
from dataclasses import dataclass
from pathlib import Path

from support import interpreters

from gilscope.errors import GilscopeError
from hosts import cases

PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", interpreters.DEBIAN, interpreters.PLUS)


@dataclass
class Row:
    """What came of one host in one way on one interpreter."""

    interpreter: str
    host: cases.Host
    way: str
    good: int = 0
    of: int = 0
    trouble: str = ""


def main() -> int:
    """Returns 1 where a host ended otherwise than alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", type=float, help="begin no round after so many")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--only", action="append", default=[])
    args = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gilscope-hosts-") as name:
        folder = Path(name)
        hosts = [
            (interpreter, host)
            for interpreter, host in _hosts(folder)
            if all(word in f"{interpreter} {host.name}" for word in args.only)
        ]
        rows = [Row(*it, way) for it in hosts for way in cases.WAYS]
        with ThreadPoolExecutor(args.jobs) as pool:
            outcomes = list(pool.map(lambda it: cases.run(it[1], (), folder), hosts))
            alone = dict(zip(hosts, outcomes, strict=True))
            for number in range(1, args.rounds + 1):
                minutes = (time.monotonic() - begin) / 60
                if args.minutes is not None and minutes > args.minutes:
                    break
                # All mutations of the queue once; those of QUEUES, as all else, in every round.
                its = [row for row in rows if number == 1 or not _is_extra(row)]
                list(
                    pool.map(lambda row: _once(folder, row, alone[row.interpreter, row.host]), its)
                )
                minutes = (time.monotonic() - begin) / 60
                print(f"round {number}: {_good(rows)}, {minutes:.0f} minutes", flush=True)
                if args.table:
                    args.table.write_text(_page(rows, number, minutes), encoding="utf-8")
    return 1 if any(row.trouble for row in rows) else 0


def _good(rows: list[Row]) -> str:
    return f"{sum(row.good for row in rows)} of {sum(row.of for row in rows)} ended as alone"


def _is_extra(row: Row) -> bool:
    words = row.host.name.split()
    return words[0] == "queue" and tuple(words[1:]) not in cases.QUEUES


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
            queues = cases.all_queues() if (name, library) == ("3.13", "static") else []
            for host in cases.embedding_hosts(
                python, library, made, list(dict.fromkeys([*cases.QUEUES, *queues]))
            ):
                yield f"{name} {library}", host


def _once(folder: Path, row: Row, alone: cases.Outcome) -> None:
    words = cases.WAYS[row.way]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        outcome = cases.run(row.host, words, work)
        wrong = _wrong(outcome, alone, work if words == cases.RECORD else None)
    row.of += 1
    row.good += not wrong
    if wrong and not row.trouble:
        row.trouble = wrong
        print(f"{row.interpreter}: {row.host.name}, {row.way}: {wrong}", flush=True)


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
    names = list(dict.fromkeys(_kind(row.host.name) for row in rows))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    lines = [
        "# Hosts: programs that must run as they do alone",
        "",
        f"Of {rounds} rounds under `record` and as many under `run --policy io-priority`, how many"
        " ended with the exit code, the output and the errors of the program alone, and, where it"
        " was recorded, left a whole trace. `tests/hosts/cases.py` has the programs; a row of"
        " queues has several mutations (those of cases.QUEUES; on 3.13, static, all others once)."
        " Made by `make test-hosts`"
        f" at {commit}, {os.cpu_count()} processors, {minutes:.0f} minutes.",
        "",
        "| host | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name in names:
        cells = []
        for column in columns:
            its = [r for r in rows if _kind(r.host.name) == name and r.interpreter == column]
            cells.append(f"{sum(r.good for r in its)}/{sum(r.of for r in its)}" if its else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", _good(rows) + "."]
    lines += [
        "",
        *[f"- {r.interpreter}, {r.host.name}, {r.way}: {r.trouble}" for r in rows if r.trouble],
    ]
    return "\n".join(lines).rstrip() + "\n"


def _kind(host: str) -> str:
    words = host.split()
    return f"queue, {words[1]}, {words[5]}" if words[0] == "queue" else host


if __name__ == "__main__":
    sys.exit(main())
