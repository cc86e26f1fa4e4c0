"""The summary: its exact shape, the classes of threads, what the findings say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from support.stories import MemorySource, StoryBuilder, rolled_story, told

from gilscope.analysis import classification as rules
from gilscope.analysis.summary import summarise
from gilscope.analysis.units import counted, duration, percent
from gilscope.safe_text import escaped
from gilscope.trace.model import Trace
from gilscope.trace.schema import EventKind as K
from gilscope.trace.schema import Policy

MS = 1_000_000
DISTRIBUTION = {"count", "sum", "mean", "p50", "p90", "p99", "max"}
KEYS = {
    "schema command duration_ns events lost_events cut_at_start stopped stopped_after_ns exit_code"
    " clock policy kernel processes groups longest_waits findings",
    "name threads processes class life_ns shared_ns held_ns waiting_ns outside_ns unknown_ns"
    " wait_ns io_wait_ns cpu_wait_ns",
    "at_ns wait_ns waiter waiter_site holder held_ns holder_site free_ns others acquired",
    "file line function library_line exact library short gc",
    "id pid command python feed interpreter attached_at_ns life_ns lost_events unclean_end inferred"
    " stacks lost_stacks gils threads"
    " blame lines conditions locks atomic gc",
    "site first_line last_line holders waiters waits wait_ns held_ns",
    "id held_ns idle_ns unknown_ns contended_ns switches forced_yields max_waiters",
    "id tid name gil class life_ns shared_ns held_ns waiting_ns outside_ns unknown_ns"
    " waiting_share acquires contended_acquires voluntary_releases forced_yields short_sleeps"
    " requests_made wait_ns io_wait_ns cpu_wait_ns hold_ns wakeup_ns lock_wait_ns outside"
    " held waiting wakeups",
    "lock_ns condition_ns running_ns preempted_ns off_ns unknown_ns",
    "running_ns preempted_ns off_ns unknown_ns",
    "switches lost_switches throttled throttled_ns",
    "waiter holder wait_ns gil_ns waits waiter_site holder_site others",
    "waiter holder reason wait_ns waits waiter_site holder_site others",
    "name grace_ns switch_interval_ns",
    "source clamped",
    "severity kind text value_ns process thread site gain",
    "object kind waits timeouts notifies wait_ns wakeup_ns gil_ns waiter notifier waiter_site"
    " library waits_for blame",
    "object kind waits timeouts wait_ns others library waits_for blame",
    "sections deferred_yields held_ns length_ns waiters",
    "thread wait_ns",
    " ".join(DISTRIBUTION),
}


def summary_of(source: MemorySource) -> dict[str, Any]:
    return summarise(Trace.from_source(source))


def shapes(value: object) -> set[frozenset[str]]:
    """The sets of keys of all dictionaries in `value`."""
    found: set[frozenset[str]] = set()
    if isinstance(value, dict):
        found.add(frozenset(value))
        value = list(value.values())
    if isinstance(value, list):
        found = found.union(*(shapes(item) for item in value))
    return found


def convoy(turns: int = 100, *, mislabelled: bool = False, interval: int = 5 * MS) -> StoryBuilder:
    """An echo thread (2) beside a spinning one (1): it gets a turn an interval."""
    builder = StoryBuilder()
    builder.process()
    main, spin, echo = builder.thread(), builder.thread(name="spin"), builder.thread(name="echo")
    gil = builder.gil()
    builder.event(0, K.PROCESS_START, main)
    # A start-up of long stretches in the thread that will be the echo server.
    builder.event(10, K.GIL_ACQUIRE, echo, gil)
    builder.event(80 * MS, K.GIL_RELEASE, echo, gil)
    builder.event(80 * MS, K.GIL_ACQUIRE, spin, gil)
    time = 80 * MS
    for _ in range(turns):
        builder.event(time + 50_000, K.GIL_WAIT, echo, gil, arg=1)
        time += 50_000 + interval
        builder.event(time, K.GIL_REQUEST, echo, gil, arg=1)
        forced = K.GIL_RELEASE if mislabelled else K.GIL_YIELD
        builder.event(time + 1_000, forced, spin, gil, arg=1)
        builder.event(time + 9_000, K.GIL_ACQUIRE, echo, gil, flags=1)
        builder.event(time + 9_500, K.GIL_WAIT, spin, gil, arg=1, flags=int(not mislabelled))
        builder.event(time + 40_000, K.GIL_RELEASE, echo, gil, arg=1)
        builder.event(time + 45_000, K.GIL_ACQUIRE, spin, gil, flags=1)
        time += 45_000
    builder.event(time + 1, K.PROCESS_END, main)
    return builder


def classes(source: MemorySource) -> dict[str, str]:
    summary = summary_of(source)
    return {t["name"]: t["class"] for p in summary["processes"] for t in p["threads"]}


def test_every_key_is_the_contracts() -> None:
    summary = summary_of(rolled_story(3, 4_000, ((4, 2), (3, 1))))
    assert shapes(summary) == {frozenset(keys.split()) for keys in KEYS}
    assert json.loads(json.dumps(summary)) == summary
    for process in summary["processes"]:
        ids = {t["id"] for t in process["threads"]}
        assert {row["waiter"] for row in process["blame"]} <= ids
        assert {row["holder"] for row in process["blame"]} <= ids | {None}
        spent = [row["wait_ns"] for row in process["blame"]]
        assert spent == sorted(spent, reverse=True)


def test_an_empty_distribution_is_null_not_zero() -> None:
    summary = summary_of(told("0 a process.start\n1 a gil.acquire\n2 a process.end"))
    thread = summary["processes"][0]["threads"][0]
    expected = dict.fromkeys(DISTRIBUTION) | {"count": 0}
    assert thread["wait_ns"] == thread["cpu_wait_ns"] == thread["wakeup_ns"] == expected
    assert thread["hold_ns"]["max"] == 1


@pytest.mark.parametrize("mislabelled", [False, True])
@pytest.mark.parametrize("interval", [5 * MS, 100_000])
def test_convoy_is_told_apart(mislabelled: bool, interval: int) -> None:
    """Even where forced yields look voluntary, and at a short switch interval."""
    source = convoy(mislabelled=mislabelled, interval=interval).source()
    assert classes(source) == {"MainThread": "idle", "spin": "cpu", "echo": "io"}


def use(**changes: int) -> rules.Usage:
    usage = {
        "life_ns": 1_000 * MS,
        "held_ns": 100 * MS,
        "waiting_ns": 0,
        "asks": 1_000,
        "long_ns": 0,
        "stretches": 1_000,
        "voluntary": 1_000,
        "forced": 0,
    }
    return rules.Usage(**(usage | changes))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (use(), "io"),
        (use(long_ns=50 * MS), "cpu"),
        (use(long_ns=50 * MS - 1), "io"),
        (use(held_ns=50 * MS - 1, long_ns=49 * MS), "io"),
        (use(held_ns=50 * MS, long_ns=49 * MS), "cpu"),
        (use(held_ns=50 * MS - 1, long_ns=49 * MS, stretches=1), "io"),
        (use(held_ns=50 * MS - 1, long_ns=49 * MS, voluntary=499, forced=501), "cpu"),
        (use(voluntary=500, forced=500), "io"),
        (use(voluntary=499, forced=501), "mixed"),
        (use(stretches=200), "io"),
        (use(stretches=199), "mixed"),
        (use(held_ns=0), "idle"),
        (use(held_ns=10 * MS - 1, asks=9), "idle"),
        (use(held_ns=10 * MS - 1, asks=10), "io"),
        (use(held_ns=10 * MS, asks=9), "io"),
        (use(held_ns=0, waiting_ns=500 * MS, asks=0, stretches=0, voluntary=0), "io"),
    ],
)
def test_thresholds(usage: rules.Usage, expected: str) -> None:
    assert rules.classify(usage, usage) == expected


def with_teardown(source: StoryBuilder, thread: int, length: int) -> MemorySource:
    """Behind all others' last use of the GIL, `thread` holds it for `length`."""
    time = max(row[0] for row in source.rows) - source.start_ns
    source.event(time + 1, K.GIL_RELEASE, 1, 0)
    source.event(time + 2, K.THREAD_END, 1)
    source.event(time + 3, K.GIL_ACQUIRE, thread, 0)
    source.event(time + 3 + length, K.GIL_RELEASE, thread, 0)
    return source.source()


def test_what_nobody_shared_decides_nothing() -> None:
    """An event loop that computes when the last thread is gone, as an interpreter's end does."""
    builder = convoy()
    end = builder.rows.pop()
    source = with_teardown(builder, 2, 5_000 * MS)
    assert end[4] == K.PROCESS_END
    assert classes(source) == {"MainThread": "idle", "spin": "cpu", "echo": "io"}
    threads = {t["name"]: t for t in summary_of(source)["processes"][0]["threads"]}
    assert threads["echo"]["held_ns"] > 5_000 * MS
    # From spin's first hold to echo's last one beside it; its end takes no part of it.
    assert threads["echo"]["shared_ns"] == pytest.approx(100 * 5.095 * MS, rel=0.01)


def test_a_thread_that_had_a_gil_alone_all_the_time_is_not_idle() -> None:
    """As one with a sub-interpreter of its own, which used the first GIL for a moment."""
    whole = use(held_ns=990 * MS, long_ns=990 * MS, stretches=1, asks=1)
    shared = use(life_ns=500 * MS, held_ns=1, long_ns=0, stretches=1, asks=1)
    assert rules.classify(shared, whole) == "cpu"
    assert rules.classify(shared, use(held_ns=99 * MS, asks=1, stretches=1)) == "idle"


def test_a_requested_release_that_blocks_ends_a_stretch() -> None:
    """A request alone does not make a release forced: the thread must ask again at once."""
    text = ["0 a process.start", "0 b thread.start"]
    time = 10
    for _ in range(50):
        text += [
            f"{time} a gil.acquire",
            f"{time + 1} b gil.wait io",
            f"{time + 300_000} b gil.request",
            f"{time + 300_010} a gil.release arg=1",
            f"{time + 300_020} b gil.acquire waited",
            f"{time + 300_030} b gil.release",
        ]
        time += 300_010 + rules.PROMPT_NS + 1
    source = told("\n".join([*text, f"{time} a process.end"]))
    assert classes(source)["a"] == "io"


def verdict(source: MemorySource) -> str:
    return summary_of(source)["findings"][0]["text"]


def test_verdict_names_victim_holder_and_number() -> None:
    assert verdict(convoy().source()) == (
        "`echo` waited 5.01 ms (p99 of 100 waits) for the GIL when it came back from IO;"
        " `spin` held it >99 % of that time. Try `gilscope run --policy io-priority`: `echo` shared"
        " the GIL for 509 ms, and waited 500 ms of that for threads that compute. Without that it"
        " could do 10 times or more as much, and they would lose about 55 % of their time. Or move"
        " what they compute to another process."
    )


def test_one_that_polls_is_not_sent_to_a_policy() -> None:
    builder = convoy()
    builder.threads[2] = replace(builder.threads[2], short_sleeps=100)
    (found, *_) = summary_of(builder.source())["findings"]
    assert found["kind"] == "io-waits"
    assert found["gain"] is None
    assert found["text"].endswith(
        " It polls, by sleeps shorter than 0.5 ms, which `spin` had to yield to and waited 3.55 ms"
        " in all: no policy helps. Wait for an event, or sleep longer."
    )
    builder.threads[2] = replace(builder.threads[2], short_sleeps=40)
    assert summary_of(builder.source())["findings"][0]["kind"] == "convoy"


# b waits 6 ms for three others, who hold the GIL one after the other.
IN_TURN = """
    0        a process.start
    0        b thread.start
    0        c gil.acquire
    1000000  b gil.wait io
    {c}      c gil.release arg=1
    {c}      d gil.acquire
    5000000  d stack arg=1 seen
    5000000  d gil.release arg=1
    5000000  e gil.acquire
    7000000  e stack arg=1 seen
    7000000  e gil.release arg=1
    7000000  b gil.acquire waited
    8000000  a process.end
"""


def test_verdict_of_several_holders() -> None:
    """Where none stands out they are told together, else the others beside the one that does."""
    assert verdict(told(IN_TURN.format(c=3_200_000))) == (
        "`b` waited once, 6 ms, for the GIL when it came back from IO; `c` and 2 more held it 100 %"
        " of that time, most of it in main.py:17 serve."
    )
    assert verdict(told(IN_TURN.format(c=4_500_000))) == (
        "`b` waited once, 6 ms, for the GIL when it came back from IO; `c` held it 58 % of that"
        " time (2 other threads 42 %)."
    )


@pytest.mark.parametrize(
    ("holds", "told_of"),
    [
        ({6: "arg=1 seen"}, ", most of it in main.py:17 serve."),
        ({2: "arg=1 seen", 5: "arg=0", 6: ""}, ", 33 % of it in main.py:17 serve."),
        ({6: "arg=1"}, ", {ended} (let go at main.py:17 serve)."),
        (
            {3: "arg=5", 5: "arg=1", 6: "arg=0 seen"},
            ", {ended} (let go at größe.py Werk.tue and 1 other line),"
            " else mostly in main.py:30 <module>.",
        ),
        ({4: "arg=1", 6: "arg=1 seen"}, ", {ended} (let go at main.py:17 serve)."),
        ({3: "arg=1", 6: ""}, "."),
    ],
)
def test_a_line_where_holds_ended_is_not_told_as_their_cause(
    holds: dict[int, str], told_of: str
) -> None:
    """Whose time went before it. `holds` of c, whose stacks end them, by when they end."""
    text = "0 a process.start\n0 b thread.start\n0 c gil.acquire\n0 b gil.wait io\n"
    for end, stack in holds.items():
        text += f"{end * MS} c stack {stack}\n" if stack else ""
        text += f"{end * MS} c gil.release arg=1\n{end * MS} c gil.acquire\n"
    text += f"{6 * MS} c gil.release\n{6 * MS} b gil.acquire waited\n{7 * MS} a process.end"
    ended = "most of it in holds of which only the end is known"
    held = "; `c` held it 100 % of that time" + told_of.format(ended=ended)
    assert verdict(told(text)).partition(" Try ")[0].endswith(held)


def test_the_policy_that_it_had_is_not_suggested() -> None:
    text = verdict(convoy().source(policy=Policy("io-priority", 5000)))
    assert text.startswith("`echo` waited 5.01 ms")
    assert "Try" not in text


def test_each_waiter_is_spared_all_but_its_own_waiting_for_c_code() -> None:
    """Of 160 ms that each of four threads waited for c, 60 went to C code that kept the GIL."""
    text = "0 a process.start\n" + "".join(f"0 {io} thread.start\n" for io in "wxyz")
    at = 1_000
    for number in range(23):
        kept, line = (20 * MS, 1) if number % 8 == 4 else (5 * MS, 0)
        text += f"{at} c gil.acquire\n"
        text += "".join(f"{at} {io} gil.wait io\n" for io in "wxyz")
        text += f"{at + 5 * MS} w gil.request\n{at + kept} c stack arg={line} seen\n"
        at += kept
        text += f"{at} c gil.yield arg=4\n"
        for io in "wxyz":
            text += f"{at} {io} gil.acquire waited\n{at + 9} {io} gil.release\n"
            at += 9
    convoy, kept, *_ = summary_of(told(text + f"{at} a process.end"))["findings"]
    assert "all threads 240 ms." in kept["text"]
    assert "waited 100 ms of that for threads that compute" in convoy["text"]


def test_verdict_of_computing_threads() -> None:
    text = "0 a process.start\n1 a gil.acquire\n2 b gil.wait io\n"
    for turn in range(6):
        holder, waiter = "ab"[turn % 2], "ba"[turn % 2]
        at = (turn + 1) * 5 * MS
        text += f"{at} {holder} gil.yield\n{at + 9} {waiter} gil.acquire waited\n"
        text += f"{at + 20} {holder} gil.wait cpu\n"
    text += f"{40 * MS} a process.end"
    assert verdict(told(text)).startswith(
        "`b` and 1 more compute on one GIL: they waited 80 % of their time for it."
    )


def test_verdict_of_one_thread_that_computes_and_waits() -> None:
    """Whom the other keeps waiting, and never waits itself: that is not little to fix."""
    text = "0 a process.start\n0 g thread.start\n"
    for at in range(0, 240, 24):
        text += f"{at * MS} f gil.acquire\n{at * MS} g gil.wait io\n"
        text += f"{(at + 20) * MS} f gil.release arg=1\n{(at + 20) * MS} g gil.acquire waited\n"
        text += f"{(at + 24) * MS} g gil.release\n"
    source = told(text + f"{240 * MS} a process.end")
    assert classes(source)["g"] == "cpu"
    assert verdict(source) == (
        "`g` computes, and waited 93 % of its time for the GIL; `f` held it 100 % of that time."
        " Threads do not make Python code faster: use processes for it."
    )


def test_threads_of_different_gils_do_not_crowd_each_other() -> None:
    text = "0 a process.start\n"
    for gil, pair in enumerate(("bc", "de")):
        for turn in range(8):
            holder, waiter = pair[turn % 2], pair[1 - turn % 2]
            at = turn * 5 * MS
            waited = "waited" if turn else ""
            text += f"{at + 9} {holder} gil.acquire {waited} gil={gil}\n"
            text += f"{at + 20} {waiter} gil.wait {'cpu' if turn else 'io'} gil={gil}\n"
            text += f"{at + 5 * MS} {holder} gil.yield gil={gil}\n"
    source = told(text + f"{50 * MS} a process.end")
    assert verdict(source).startswith("`b` and 1 more compute on one GIL: they waited 83 %")


def test_verdict_when_all_is_well() -> None:
    text = "0 a process.start\n0 b thread.start\n1 a gil.acquire\n"
    text += "700 b gil.wait io\n1000 a gil.release\n"
    text += "1001 b gil.acquire waited\n50000 b gil.release\n50000 a process.end"
    found = summary_of(told(text))["findings"]
    assert found[0]["severity"] == "ok"
    assert found[0]["text"] == (
        "nothing to fix: threads waited 0.3 % of their time for the GIL, 301 ns in all,"
        " `b` most; the longest wait was 301 ns (`b`)."
    )


def test_the_longest_wait_of_all_is_told_whoever_had_it() -> None:
    text = "0 a process.start\n0 b thread.start\n0 c thread.start\n0 a gil.acquire\n"
    text += "10 b gil.wait io\n400 a gil.release\n400 b gil.acquire waited\n410 b gil.release\n"
    for at in range(1_000, 9_000, 1_000):
        text += f"{at} a gil.acquire\n{at} c gil.wait io\n{at + 100} a gil.release\n"
        text += f"{at + 100} c gil.acquire waited\n{at + 110} c gil.release\n"
    assert verdict(told(text + "100000 a process.end")).endswith(
        "1.19 µs in all, `c` most; the longest wait was 390 ns (`b`)."
    )


@pytest.mark.parametrize(
    ("life_ms", "kind"),
    [
        (1_400, "convoy"),
        (3_900, "convoy"),
        (4_100, "little to fix"),
        (30_000, "nothing to fix"),
    ],
)
def test_only_what_has_weight_is_a_problem(life_ms: int, kind: str) -> None:
    """200 ms of waiting, all the time that it shares the GIL, in a longer and longer life."""
    source = convoy(turns=40).source()
    main, spin, echo = source.metadata.threads
    echo = replace(echo, end_ns=echo.start_ns + life_ms * MS)
    source.metadata = replace(source.metadata, threads=(main, spin, echo))
    found = summary_of(source)["findings"][0]
    assert found["kind"] == kind or found["text"].startswith(kind)
    assert ("5.01 ms (p99), too seldom to matter" in found["text"]) == (kind == "little to fix")
    assert ("Try" in found["text"]) == (kind == "convoy")


def test_what_waited_less_than_a_millisecond_in_all_is_no_problem() -> None:
    """A thread of a short life waits much of it at once."""
    text = "0 a process.start\n0 a gil.acquire\n0 b thread.start\n10 b gil.wait io\n"
    text += "{end} a gil.release\n{end} b gil.acquire waited\n{end} b gil.release\n"
    text += "{end} b thread.end\n5000000 a process.end"
    assert verdict(told(text.format(end=999_000))).startswith("nothing to fix")
    assert verdict(told(text.format(end=1_001_000))).startswith("`b` waited once, 1 ms,")


def notes(source: MemorySource) -> list[str]:
    found = summary_of(source)["findings"]
    return [f["text"] for f in found if f["severity"] == "note" and f["kind"] == "trust"]


def test_forced_yields_that_are_inferred_are_said_to_be() -> None:
    """Where somebody asked, and the feed cannot tell what it saw of the release."""

    def story(*, inferred: bool, request: bool = True) -> MemorySource:
        builder = StoryBuilder()
        builder.process(yields_inferred=inferred)
        main, other = builder.thread(), builder.thread()
        gil = builder.gil()
        builder.event(0, K.GIL_ACQUIRE, main, gil)
        builder.event(1, K.GIL_WAIT, other, gil, arg=1)
        if request:
            builder.event(2, K.GIL_REQUEST, other, gil, arg=1)
        builder.event(3, K.PROCESS_END, main)
        return builder.source()

    (note,) = notes(story(inferred=True))
    assert note.startswith("forced yields are inferred from the calls of Python 3.13")
    assert notes(story(inferred=False)) == notes(story(inferred=True, request=False)) == []


def test_time_stamps_that_were_raised_are_counted() -> None:
    source = told("0 a process.start\n1 a gil.acquire\n2 a process.end")
    assert notes(source) == []
    source.clamped = 2
    assert notes(source) == ["2 of 3 time stamps were out of order and were raised."]


def test_what_is_not_whole_is_said() -> None:
    source = told(
        "0 a process.start\n1 a gil.acquire\n9 a process.end arg=1",
        lost_events=7,
        stopped="max-size",
    )
    texts = [f["text"] for f in summary_of(source)["findings"] if f["severity"] == "warning"]
    assert len(texts) == 3
    assert texts[0].startswith("7 events were lost (70 %)")
    assert texts[1].startswith("recording stopped early (max-size)")
    assert texts[2].startswith("its only process ended without saying so (killed, or _exit): 4242;")


@pytest.mark.parametrize(("exit_code", "severity"), [(130, "note"), (137, "warning")])
def test_ctrl_c_is_no_reason_to_warn(exit_code: int, severity: str) -> None:
    text = "0 a process.start\n1 a gil.acquire\n9 a process.end arg=1\n"
    text += "1 b process.start process=1\n9 b process.end"
    found = summary_of(told(text, exit_code=exit_code))["findings"]
    (unclean,) = (f for f in found if "ended without saying so" in f["text"])
    assert unclean["severity"] == severity
    assert unclean["text"].startswith("1 of 2 processes ended")


@pytest.mark.parametrize(
    ("exit_code", "more", "may_run"), [(None, 0, True), (9, 0, False), (0, 1, True)]
)
def test_what_may_still_run_is_not_said_to_have_ended(
    exit_code: int | None, more: int, may_run: bool
) -> None:
    """The recorder waits for its command; it may be cut short, and Ctrl-C leaves daemons alone."""
    text = "0 a process.start\n1 a gil.acquire\n9 a process.end arg=1\n"
    text += "1 b process.start process=1\n9 b process.end\n" * more
    (*_, warning) = summary_of(told(text, exit_code=exit_code))["findings"]
    assert ("or still ran at the end: 4242" in warning["text"]) == may_run


# Twice the computing thread has the GIL for 30 ms and the other waits 20 ms for it; then, but where
# nothing was recorded any more, both are at it for 10 s.
HALF_SEEN = """
0 main process.start
1000000 a gil.acquire
11000000 b gil.wait io
31000000 a gil.yield
31000000 b gil.acquire waited
31100000 b gil.release
32000000 a gil.acquire
42000000 b gil.wait io
62000000 a gil.yield
62000000 b gil.acquire waited
62100000 b gil.release
63000000 a gil.acquire
{stop}
10063000000 main process.end
"""
STOP = "64000000 a gil.lost arg=0\n64000000 a thread.lost arg=0\n64000000 b thread.lost arg=0"


def test_where_nothing_was_recorded_is_no_share_and_no_finding() -> None:
    stopped_ns = 1_064_000_000
    seen = told(HALF_SEEN.format(stop=STOP), stopped="little-room", stopped_ns=stopped_ns)
    summary = summary_of(seen)
    (process,) = summary["processes"]
    by_name = {t["name"]: t for t in process["threads"]}
    assert process["gils"][0]["held_ns"] == 61_200_000
    assert process["gils"][0]["unknown_ns"] == 9_999 * MS
    assert by_name["a"]["held_ns"] == 61 * MS
    assert (by_name["a"]["class"], by_name["b"]["class"]) == ("cpu", "io")
    problem, warning = summary["findings"][0], summary["findings"][-1]
    assert problem["kind"] == "convoy"
    assert "waited 40 ms of that for threads that compute" in problem["text"]
    assert warning["text"] == (
        "recording stopped early (the rings' file system had little room), after 64 ms of 10.1 s;"
        " what came later is unknown."
    )
    whole = summary_of(told(HALF_SEEN.format(stop="")))["processes"][0]
    assert whole["gils"][0]["held_ns"] == 10_060_200_000
    assert whole["gils"][0]["unknown_ns"] == 0


def test_a_wait_for_another_gil_leaves_the_gap_of_the_first() -> None:
    source = told("""
        0   a process.start
        10  b gil.acquire
        20  b gil.release
        100 a gil.lost arg=5
        200 a gil.acquire
        210 a gil.release
        300 a gil.lost gil=1 arg=3
        310 b gil.wait io gil=1
        350 b gil.acquire waited gil=1
        360 b gil.release gil=1
        400 a process.end
    """)
    _, b = summary_of(source)["processes"][0]["threads"]
    parts = [b[f"{part}_ns"] for part in ("life", "held", "waiting", "outside", "unknown")]
    assert parts == [350, 20, 40, 190, 100]


def test_a_trace_without_events_says_so() -> None:
    assert verdict(StoryBuilder().source()) == "the trace has 0 events."
    builder = StoryBuilder()
    builder.process(interpreter="free-threaded")
    builder.event(0, K.PROCESS_START, builder.thread())
    assert "no GIL was used: its only process ran a free" in verdict(builder.source())


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "event", "0 events"),
        (1, "process", "1 process"),
        (2, "process", "2 processes"),
        (1_234, "switch", "1,234 switches"),
    ],
)
def test_counts_have_their_plural(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1 µs"),
        (38_200, "38.2 µs"),
        (4_930_000, "4.93 ms"),
        (999_900_000, "1 s"),
        (12_400_000_000, "12.4 s"),
        (130_000_000_000, "130 s"),
        (5_000_000_000_000, "5,000 s"),
    ],
)
def test_durations(ns: int, text: str) -> None:
    assert duration(ns) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 100, "0 %"),
        (1, 10_000, "<0.1 %"),
        (3, 1_000, "0.3 %"),
        (98, 100, "98 %"),
        (9_999, 10_000, ">99 %"),
        (100, 100, "100 %"),
        (0, 0, "0 %"),
    ],
)
def test_percents(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


def test_names_cannot_move_the_cursor() -> None:
    assert escaped("a\x1b[31m\n\u202eü") == r"a\x1b[31m\n\u202eü"
