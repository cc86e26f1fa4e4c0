"""Stories and their text. `GILSCOPE_GOLDEN=write pytest tests/golden` writes the expectations anew;
read the difference before you commit it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.golden import expect_golden
from support.stories import told

from gilscope.analysis.summary import summarise
from gilscope.errors import ImpossibleStory
from gilscope.trace.model import Trace
from gilscope.trace.text import lines

HERE = Path(__file__).parent
STORIES = sorted((HERE / "stories").glob("*.story"))

# Each breaks one rule; what stands before `|` is the name of the rule.
IMPOSSIBLE = """
two holders | 1 a gil.acquire; 2 b gil.acquire
two holders, after waiting | 1 a gil.acquire; 2 b gil.wait io; 3 b gil.acquire waited
acquire twice | 1 a gil.acquire; 2 a gil.acquire
wait while holding | 1 a gil.acquire; 2 a gil.wait io
wait twice | 1 a gil.wait io; 2 a gil.wait io
acquire as if it had not waited | 1 a gil.wait io; 2 a gil.acquire
acquire as if it had waited | 1 a gil.acquire; 2 a gil.release; 3 a gil.acquire waited
release of another's hold | 1 a gil.acquire; 2 b gil.release
yield of another's hold | 1 a gil.acquire; 2 b gil.yield
release twice | 1 a gil.acquire; 2 a gil.release; 3 a gil.release
release of a free GIL | 1 a gil.acquire; 2 a gil.release; 3 b gil.release
release while waiting | 1 a gil.wait io; 2 a gil.release
request by the holder | 1 a gil.acquire; 2 a gil.request
request by nobody who waits | 1 a gil.acquire; 2 a gil.release; 3 a gil.request
two GILs held | 1 a gil.acquire; 2 a gil.acquire gil=1
wait for one, take the other | 1 a gil.wait io; 2 a gil.acquire gil=1
after the thread's end | 1 b thread.start; 2 b thread.end; 3 b gil.acquire
thread ends twice | 1 b thread.start; 2 b thread.end; 3 b thread.end
thread starts late | 1 b gil.acquire; 2 b thread.start
after the process's end | 1 a process.end; 2 b gil.acquire
process starts twice | 1 b process.start
backwards on one GIL | 5 a gil.acquire; 4 b gil.wait io
backwards on one thread | 5 b thread.start; 4 b thread.end
hold left open | 1 a gil.acquire; end
wait left open | 1 a gil.acquire; 2 b gil.wait io; end
GIL of another process | 1 c gil.acquire gil=0 process=1
wait for a lock while holding | 1 a gil.acquire; 2 a lock.wait native object=0x10
wait for a condition while holding | 1 a gil.acquire; 2 a cond.wait native object=0x10
wait for the GIL while waiting for a lock | 1 a lock.wait native object=0x10; 2 a gil.wait io
acquire while waiting for a condition | 1 a gil.wait io; 2 a cond.wait gil; 3 a gil.acquire waited
end of another wait | 1 a lock.wait native object=0x10; 2 a lock.acquire native object=0x20
end of a wait of another kind | 1 a lock.wait native; 2 a lock.acquire pymutex
end of a wait for a condition | 1 a lock.wait native object=0x10; 2 a cond.wake native object=0x10
end of no wait | 1 a gil.acquire; 2 a gil.release; 3 a lock.acquire native object=0x10
waits too deep | 1 a lock.wait; 1 a lock.wait; 1 a lock.wait; 1 a lock.wait; 1 a lock.wait
wait with a detail | 1 a lock.wait woken=1
lock of no kind | 1 a lock.release object=0xf
atomic section of no depth | 1 a atomic.enter
enters too deep | 1 a atomic.enter depth=1; 2 a atomic.enter depth=3
exits another section | 1 a atomic.enter depth=1; 2 a atomic.exit depth=2
exits twice | 1 a atomic.enter depth=1; 2 a atomic.exit depth=1; 3 a atomic.exit depth=1
defers at another depth | 1 a atomic.enter depth=1; 2 a atomic.deferred depth=2
wakes one that does not wait | 1 b gil.acquire; 2 b gil.release; 3 a gil.wakeup to=b
wakes nobody's number | 1 a gil.wakeup arg=99
wakes another process's thread | 1 c thread.start process=1; 2 a gil.wakeup to=c
wait for a lock left open | 1 a lock.wait; end
atomic section left open | 1 a atomic.enter depth=1; end
"""
PROLOGUE = "0 a process.start\n0 a gil.lost gil=0 arg=1\n0 a gil.lost gil=1 arg=1\n"


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_text_of_story(story: Path) -> None:
    source = told(story.read_text(encoding="utf-8"))
    expect_golden(story.with_suffix(".dump"), "".join(lines(source)))


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_summary_of_story(story: Path) -> None:
    summary = summarise(Trace.from_source(told(story.read_text(encoding="utf-8"))))
    expect_golden(story.with_suffix(".json"), json.dumps(summary, indent=1) + "\n")


def test_impossible_stories_are_refused_in_these_words() -> None:
    report = []
    for line in IMPOSSIBLE.strip().splitlines():
        rule, events = (part.strip() for part in line.split("|"))
        steps = [step.strip() for step in events.split(";")]
        left_open = steps[-1] == "end"
        if not left_open:
            steps.append("9 a process.end")
        text = PROLOGUE + "\n".join(steps[:-1] if left_open else steps)
        with pytest.raises(ImpossibleStory) as refused:
            Trace.from_source(told(text, name="t.pftrace"))
        with pytest.raises(ImpossibleStory, match=r"t\.pftrace"):
            list(lines(told(text, name="t.pftrace")))
        report.append(f"{rule}\n    {refused.value}\n")
    expect_golden(HERE / "impossible.txt", "".join(report))
