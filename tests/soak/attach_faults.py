"""Attaching while somebody is killed, by the hundred: does anybody but the killed one notice?

    python tests/soak/attach_faults.py [--times N] [--page FILE.md] [--anew] [INTERPRETER…]

The kinds are those of tests/support/attach_faults.py. What is done is noted in
build/soak/attach-faults.jsonl, a line a time, and a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from support import interpreters
from support.attach_faults import FAULTS, rings_in, rounds

NOTES = Path(__file__).parents[2] / "build" / "soak" / "attach-faults.jsonl"
HEADING = "## While somebody is killed"
SECTION = """{heading}

`make soak-attach-faults`, {today}: how often each was made to happen, at a random moment of an
attach, without harm to anybody but who was killed. Attachers, timers and forks are those of
`tests/support/attach_faults.py`. Behind the last of each the program says that its requests,
threads, children and signals were fine, and has the descriptors and the environment that it had
before.

| | {names} |
|---|{lines}
{rows}
"""


def done() -> list[dict[str, Any]]:
    """What is noted."""
    if not NOTES.exists():
        return []
    return [json.loads(line) for line in NOTES.read_text().splitlines()]


def soak(fault: Any, name: str, times: int) -> bool:
    """What is left of one kind on one interpreter. Whether all went well."""
    before = [one for one in done() if (one["fault"], one["python"]) == (fault.name, name)]
    good = not any(one["wrong"] for one in before)
    with NOTES.open("a") as notes:
        left = max(0, times - len(before))
        for wrong in rounds(fault, interpreters.path(name), left, seed=len(before)):
            note = {"fault": fault.name, "python": name, "wrong": wrong}
            print(json.dumps(note), file=notes, flush=True)
            if wrong:
                print(f"{name}: {fault.name}: {wrong}", flush=True)
                good = False
    return good


def section(names: Iterable[str]) -> str:
    """Of the page."""
    names, notes = list(names), done()
    rows = []
    for fault in FAULTS:
        cells = []
        for name in names:
            its = [one for one in notes if (one["fault"], one["python"]) == (fault.name, name)]
            cells.append(f"{sum(not one['wrong'] for one in its)} of {len(its)}")
        rows.append(f"| {fault.name} | {' | '.join(cells)} |")
    return SECTION.format(
        heading=HEADING,
        today=datetime.datetime.now(datetime.UTC).date(),
        names=" | ".join(names),
        lines="---|" * len(names),
        rows="\n".join(rows),
    )


def main() -> int:
    """Exit code 1 when somebody noticed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=interpreters.names())
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--anew", action="store_true", help="forget what is done")
    args = parser.parse_args()
    NOTES.parent.mkdir(parents=True, exist_ok=True)
    if args.anew:
        NOTES.unlink(missing_ok=True)
    good = True
    room = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(dir=room) as folder, rings_in(Path(folder)):
        for name in args.names:
            for fault in FAULTS:
                good &= soak(fault, name, args.times)
            print(f"{name}: done", flush=True)
    if args.page:
        before = args.page.read_text().partition(HEADING)[0].rstrip("\n")
        args.page.write_text(f"{before}\n\n{section(args.names)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
