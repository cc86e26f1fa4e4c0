"""The summary takes at most 32 bytes an event, above what the interpreter has with its imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EVENTS = 3_000_000

# A story that repeats; no more than one batch of it is ever in memory.
PROGRAM = """
import sys
import numpy as np
from support.stories import MemorySource, told
from gilscope.analysis.summary import summarise
from gilscope.trace.model import Trace
from gilscope.trace.schema import Totals

class Repeated(MemorySource):
    def batches(self):
        head, end = self.events[:1], self.events[-1:].copy()
        round_ns = int(end["time_ns"][0] - head["time_ns"][0])
        body, times = self.events[1:-1], 60_000 // (len(self.events) - 2)
        batch = np.tile(body, times)
        batch["time_ns"] += np.repeat(np.arange(times) * round_ns, len(body))
        yield head
        self.n = 2
        while self.n < int(sys.argv[1]):
            yield batch
            batch["time_ns"] += times * round_ns
            self.n += len(batch)
        end["time_ns"] = batch["time_ns"][-1]
        yield end

    @property
    def totals(self):
        return Totals(self.n, 0)

def field(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(l for l in lines if l.startswith(name)).split()[1]) * 1024

story = told(sys.argv[2])
summarise(Trace.from_source(story))
open("/proc/self/clear_refs", "w").write("5")  # the peak from here on
idle = field("VmRSS")
summary = summarise(Trace.from_source(Repeated(story.name, story.metadata, story.events)))
print(summary["events"], field("VmHWM") - idle)
"""

STORIES = {
    "alone": "1 a gil.acquire\n3 a gil.release",
    "contended": "1 a gil.wait\n2 a gil.acquire waited\n3 b gil.wait\n4 a gil.yield\n"
    "5 b gil.acquire waited\n6 b gil.release",
    "requests": "1 a gil.acquire\n2 b gil.wait\n3 b gil.request\n4 b gil.request\n5 b gil.request\n"
    "6 a gil.release\n7 b gil.acquire waited\n8 b gil.release",
    "losses": "1 a gil.lost\n2 a gil.acquire\n3 a gil.release",
}


@pytest.mark.parametrize("story", STORIES)
def test_bytes_an_event(story: str) -> None:
    text = f"0 a process.start\n{STORIES[story]}\n9 a process.end"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(EVENTS), text],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    events, grown = map(int, done.stdout.split())
    assert events >= EVENTS
    assert 0 < grown <= 32 * events
    print(f"{story}: {grown / events:.1f} bytes an event")
