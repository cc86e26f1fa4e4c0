"""Every host again and again, on every interpreter, alone, recorded and scheduled.

    cd tests && python -m hosts.rounds [--rounds N] [--keep DIR] [--table FILE] [--only WORD]…

Writes a table: how often each ended as it does alone, and its trace was whole. What was built and
what was seen stays in DIR, where the next call goes on. `make test-hosts`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support import interpreters

from gilscope.errors import GilscopeError
from hosts import cases

SEEN = "seen.json"
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

    @property
    def key(self) -> str:
        """What it is, but for the way."""
        return f"{self.interpreter}: {self.host.name}"


def main() -> int:
    """Returns 1 where a host ended otherwise than alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--keep", type=Path, default=Path("../build/hosts"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--only", action="append", default=[])
    args = parser.parse_args()
    folder: Path = args.keep.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rows = [Row(*it, way) for it in _hosts(folder) for way in cases.WAYS]
    _remember(folder, rows)
    chosen = [row for row in rows if all(word in f"{row.key} {row.way}" for word in args.only)]
    with ThreadPoolExecutor(args.jobs) as pool:
        for number in range(1, args.rounds + 1):
            # All mutations of the queue once; those of QUEUES, as all else, in every round.
            its = [row for row in chosen if row.of < (1 if _is_extra(row) else number)]
            for _ in pool.map(lambda row: _once(folder, row), its):
                seen = {f"{row.key}, {row.way}": [row.good, row.of, row.trouble] for row in rows}
                part = folder / f"{SEEN}.part"
                part.write_text(json.dumps(seen), encoding="utf-8")
                part.replace(folder / SEEN)
            print(f"round {number}: {_good(rows)}", flush=True)
            if args.table:
                args.table.write_text(_page(rows), encoding="utf-8")
    return 1 if any(row.trouble for row in rows) else 0


def _remember(folder: Path, rows: list[Row]) -> None:
    """What earlier calls saw."""
    if not (folder / SEEN).exists():
        return
    seen = json.loads((folder / SEEN).read_text(encoding="utf-8"))
    for row in rows:
        row.good, row.of, row.trouble = seen.get(f"{row.key}, {row.way}", (0, 0, ""))


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
        made.mkdir(exist_ok=True)
        for host in cases.python_hosts(python, made):
            yield name, host
        for library in cases.libraries(python):
            queues = cases.all_queues() if (name, library) == ("3.13", "static") else []
            for host in cases.embedding_hosts(
                python, library, made, list(dict.fromkeys([*cases.QUEUES, *queues]))
            ):
                yield f"{name} {library}", host


def _once(folder: Path, row: Row) -> None:
    words, alone = cases.WAYS[row.way], _alone(row.host, folder)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        outcome = cases.run(row.host, words, work)
        wrong = _wrong(outcome, alone, work if words == cases.RECORD else None)
    row.of += 1
    row.good += not wrong
    if wrong and not row.trouble:
        row.trouble = wrong
        print(f"{row.interpreter}: {row.host.name}, {row.way}: {wrong}", flush=True)


@cache
def _alone(host: cases.Host, folder: Path) -> cases.Outcome:
    return cases.run(host, (), folder)


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


def _page(rows: list[Row]) -> str:
    rounds = max(row.of for row in rows)
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
        f" at {commit}, {os.cpu_count()} processors.",
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
