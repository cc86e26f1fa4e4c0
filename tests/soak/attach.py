"""Into a loaded server and out again, many times: does it ever notice, does anything stay?

    python tests/soak/attach.py [--cycles N] [--page FILE.md] [INTERPRETER…]

Of each interpreter one server (tests/support/attached.py): a client, a thread that computes, short
threads, locks, forks. Each cycle attaches, records for a moment and detaches; every tenth trace is
written and read. Behind the last cycle mappings and descriptors are those behind the first.
"""

from __future__ import annotations

import argparse
import datetime
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from support import interpreters
from support.attached import SERVER, Target, running

import gilscope
from gilscope.attach.blob import Request
from gilscope.attach.place import place_of
from gilscope.attach.process import Attached
from gilscope.errors import GilscopeError
from gilscope.perfetto.writer import write_trace
from gilscope.recorder.notes import Notes
from gilscope.recorder.session import Session
from gilscope.trace.rings import open_rings

RECORD_S = (0.0, 0.01, 0.05, 0.1)
EVERY = 10

PAGE = """# Attaching again and again

`make soak-attach`, {today}: on each interpreter {cycles} times into one loaded server and out of
it: a client, a thread that computes, short threads, locks, forks. Times are ms, p50 / p99 / the
longest, on a machine that was busy with other work: they are upper bounds. Events are those of each
tenth trace, which was written and read. The last two columns: mappings and descriptors behind the
last cycle against those behind the first, and what the server said of its requests, threads and
children.

| interpreter | without a fault | attach | detach | events | what stays | the server |
|---|---|---|---|---|---|---|
{rows}
"""


class Outcome(NamedTuple):
    """Of one interpreter."""

    name: str
    good: int
    failures: list[str]
    attach_ms: list[float]
    detach_ms: list[float]
    events: int
    same: bool  # mappings of files, their access, descriptors, environment
    program: str  # what it said in the end


def cycle(server: Target, trace: Path | None) -> tuple[float, float, int]:
    """One; how long it took to come in and to go, ms, and the events of the trace."""
    place = place_of(server.pid)
    session = Session(64 << 20, directory=place.directory)
    notes = Notes(command=("server",), gilscope=gilscope.__version__, limit=session.limit)
    try:
        notes.write(session.directory)
        session.begin(server.pid)
        session.tick()
        one = Attached.open(server.pid, place)
        begin = time.perf_counter()
        one.begin(Request(str(place.rings)))
        while not one.is_in():
            session.tick()
            time.sleep(0.0005)
        came_in = time.perf_counter()
        end = time.monotonic() + random.choice(RECORD_S)
        while time.monotonic() < end:
            session.tick()
            time.sleep(0.01)
        session.stop_for_good()
        going = time.perf_counter()
        if not one.end():
            raise AssertionError("the rings are mapped still")
        gone = time.perf_counter()
        one.close()
        events = 0
        if trace:
            notes = notes._replace(
                root_pid=server.pid, root_end_ns=time.monotonic_ns(), exit_code=0
            )
            notes.write(session.directory)
            with open_rings(session.directory) as rings:
                events = write_trace(rings, trace).events
            gilscope.read(trace)
        return (came_in - begin) * 1e3, (gone - going) * 1e3, events
    finally:
        session.discard()


def soak(name: str, cycles: int) -> Outcome:
    """All cycles on one interpreter."""
    attach_ms, detach_ms, failures, events = [], [], [], 0
    with TemporaryDirectory() as folder, running(interpreters.path(name), SERVER) as server:
        first = None
        for number in range(cycles):
            try:
                trace = Path(folder, "out.pftrace") if number % EVERY == 0 else None
                into, out, more = cycle(server, trace)
                attach_ms.append(into)
                detach_ms.append(out)
                events += more
            except (GilscopeError, AssertionError) as error:
                failures.append(f"{number}: {error}")
            first = first or server.footprint()
        last = server.footprint()
        code, out_text = server.end()
    said = out_text.split(" ")[0] if code == 0 else f"exit code {code}: {out_text.strip()}"
    return Outcome(
        name, len(attach_ms), failures, attach_ms, detach_ms, events, first == last, said
    )


def row(one: Outcome, cycles: int) -> str:
    """Of the page's table."""

    def spread(times: list[float]) -> str:
        ordered = sorted(times)
        at = [ordered[int((len(ordered) - 1) * share)] for share in (0.5, 0.99, 1)]
        return " / ".join(f"{ms:.1f}" for ms in at)

    return (
        f"| {one.name} | {one.good} of {cycles} | {spread(one.attach_ms)} | {spread(one.detach_ms)}"
        f" | {one.events:,} | {'the same' if one.same else 'CHANGED'} | {one.program} |"
    )


def main() -> int:
    """Exit code 1 when a cycle failed, something stayed, or a server noticed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=interpreters.names())
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    outcomes = []
    for name in args.names:
        outcomes.append(soak(name, args.cycles))
        print(row(outcomes[-1], args.cycles), *outcomes[-1].failures, sep="\n", flush=True)
    if args.page:
        today = datetime.datetime.now(datetime.UTC).date()
        rows = "\n".join(row(one, args.cycles) for one in outcomes)
        text = PAGE.format(today=today, cycles=args.cycles, rows=rows)
        other = args.page.read_text() if args.page.exists() else ""  # of attach_faults.py
        _, heading, section = other.partition("\n## ")
        args.page.write_text(text + heading + section)
    good = all(not one.failures and one.same and one.program == "fine" for one in outcomes)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
