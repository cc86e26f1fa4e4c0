"""`gilscope bench probe`: what recording costs the recorded program.

Machines are noisy, so nothing is measured once and nothing alone: each figure comes from blocks of
some milliseconds, measured in turn with the blocks they are compared to, whose order alternates,
on the same processor: where the kernel puts a server and its client decides their speed by a factor
of four. Stated are medians, the 5th and the 95th percentile, and ratios of neighbouring blocks.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from gilscope.__main__ import itself
from gilscope.benchmarks import harness
from gilscope.benchmarks.harness import Worker, cpus, median_interval, starting_on
from gilscope.child import output_of
from gilscope.errors import RecordingError, UsageError

T = TypeVar("T")

HELP = "what recording costs: an event, a GIL hand-over, an echo server, the start"

EVENTS = 50_000  # a block
TURNS = 4_000
PAIRS = 16  # of processes: where one's code and data happen to lie is worth some per cent
REQUESTS = 200
SHORT = 50  # requests, where one process is compared with itself and drifts meanwhile
RECORDING, COUNTING = "recording", "counting"
WATCHED_PAIRS = {RECORDING: PAIRS, COUNTING: 4 * PAIRS}  # its bound is a third, and of both ends
BUILT_IN, INTERPOSED = "built-in", "interposed"
FEED = "GILSCOPE_FEED"  # which of them watches a Python Plus

# Each worker prints a line when it is ready and then answers each line it reads with one.
EVENT_WORKER = """
import ctypes, mmap, sys
probe, n = ctypes.CDLL(sys.argv[1]), int(sys.argv[2])
emit, floor = probe.gilscope_bench_emit, probe.gilscope_bench_floor
emit.restype = floor.restype = ctypes.c_uint64
emit.argtypes = [ctypes.c_uint64]
floor.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
first = ctypes.c_char.from_buffer(mmap.mmap(-1, 16 * n))  # keeps the mapping alive
warm = ctypes.addressof(first)
floor(warm, n)
print("ready", flush=True)
for line in sys.stdin:
    if "emit" in line:
        print(emit(n // 2) / n, flush=True)
    else:
        print(floor(warm, n) / n, flush=True)
"""
FRAMES = 20
STACKS = 2_000
STACK_WORKER = """
import ctypes, sys
take = ctypes.PyDLL(sys.argv[1]).gilscope_bench_stack
take.restype, take.argtypes = ctypes.c_uint64, [ctypes.c_uint64]
def deep(frames, n):
    return deep(frames - 1, n) if frames > 2 else take(n)  # the module's frame is one more
print("ready", flush=True)
for line in sys.stdin:
    frames, n = map(int, line.split())
    print(deep(frames, n) / n, flush=True)
"""
LOOP_WORKER = """
import ctypes, mmap, os, sys, time
probe, n = ctypes.CDLL(sys.argv[1]), int(sys.argv[2])
floor = probe.gilscope_bench_floor
floor.restype, floor.argtypes = ctypes.c_uint64, [ctypes.c_void_p, ctypes.c_uint64]
first = ctypes.c_char.from_buffer(mmap.mmap(-1, 16 * n))  # keeps the mapping alive
warm = ctypes.addressof(first)
floor(warm, n)
def turns(n, write=os.write, now=time.thread_time_ns):
    start = now()
    for _ in range(n):
        write(null, b"x")
    return now() - start
null = os.open("/dev/null", os.O_WRONLY)
print("ready", flush=True)
for line in sys.stdin:
    print((turns(n) if "turn" in line else floor(warm, n)) / n, flush=True)
"""
# One byte is a word to the server: take stacks from here on, or none.
ECHO_WORKER = """
import ctypes, socket, sys, threading
stacks = ctypes.PyDLL(sys.argv[1]).gilscope_bench_stacks
def echo(listener):
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while request := connection.recv(64):
        if len(request) == 1:
            stacks(request == b"+")
        connection.sendall(request)
listener = socket.create_server(("127.0.0.1", 0))
thread = threading.Thread(target=echo, args=(listener,), name="echo")
thread.start()
print(listener.getsockname()[1], flush=True)
"""

# Each answer: ms from `with gilscope.trace(…)` to the first line within, not for the first time.
ENTER_WORKER = """
import sys, tempfile, threading, time
import gilscope
def compute():
    while True:
        sum(range(1_000))
if sys.argv[1] == "beside":
    threading.Thread(target=compute, daemon=True).start()
def enter(path):
    began = time.perf_counter_ns()
    with gilscope.trace(path):
        return (time.perf_counter_ns() - began) / 1e6
with tempfile.TemporaryDirectory() as folder:
    enter(folder + "/first.pftrace")
    print("ready", flush=True)
    for line in sys.stdin:
        print(enter(folder + "/again.pftrace"), flush=True)
"""


@dataclass(frozen=True)
class Figure:
    """One result: the median of its blocks, their 5th and 95th percentile, and its target."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    target: float | None = None
    judged: float | None = None  # what the target limits, where that is not the median
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None where there is no target."""
        if self.target is None:
            return None
        return (self.median if self.judged is None else self.judged) <= self.target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `gilscope bench probe`."""
    parser.add_argument(
        "--interpreter",
        metavar="PATH",
        action="append",
        type=Path,
        help="the Python to record; again for more (default: this one)",
    )
    parser.add_argument("--rounds", metavar="N", type=int, default=100, help="blocks of each kind")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the figures; 1 when a target is missed. Raises UsageError and RecordingError."""
    if args.rounds < 2:
        raise UsageError("--rounds needs at least 2")
    interpreters = [str(path) for path in args.interpreter or [Path(sys.executable)]]
    for path in interpreters:
        harness.interpreter(path)  # a mistake is told before anything is measured
    figures: list[Figure] = []
    show: Callable[[Figure], None] = (lambda _: None) if args.json else _show
    if not args.json:
        print(machine(), flush=True)
    for figure in measure(interpreters, args.rounds):
        figures.append(figure)
        show(figure)
    if args.json:
        rows = [{**asdict(figure), "met": figure.met} for figure in figures]
        print(json.dumps({"schema": 1, "machine": machine(), "figures": rows}, indent=1))
    return int(any(figure.met is False for figure in figures))


def measure(interpreters: Sequence[str], rounds: int) -> Iterator[Figure]:
    """All figures, one after the other. Raises RecordingError."""
    event_ns, *rest = events(rounds)
    yield event_ns
    yield from rest
    for path in interpreters:
        yield from stack(path, rounds)
        yield from write_loop(path, 4 * rounds, event_ns.median)
        yield from echo(path, 4 * rounds)
    yield from enter(max(5, rounds // 5))
    yield from start_up(max(5, rounds // 5))


def events(rounds: int) -> list[Figure]:
    """An event through the hot path, beside its floor: a time stamp and a 16-byte store."""
    from gilscope import _native  # noqa: PLC0415 - ctypes

    cost: list[float] = []
    floor: list[float] = []
    probe = str(_native.probe_path())
    with _recorded(sys.executable, EVENT_WORKER, probe, str(EVENTS)) as (worker, tick):
        for index in range(rounds):
            tick()
            for kind in _in_turn(("emit", "floor"), index):
                (cost if kind == "emit" else floor).append(float(worker.ask(kind)))
    ratios = [a / b for a, b in zip(cost, floor, strict=True)]
    return [
        _figure("an event", "ns", cost, 20),
        _figure("its floor: a time stamp, a 16-byte store", "ns", floor),
        _figure("an event / its floor", "x", ratios, 1.6),
    ]


def stack(interpreter: str, rounds: int) -> list[Figure]:
    """A stack at the end of a long hold, all its frames seen before."""
    from gilscope import _native  # noqa: PLC0415 - ctypes

    cost: list[float] = []
    with _recorded(interpreter, STACK_WORKER, str(_native.probe_path())) as (worker, tick):
        for _ in range(rounds):
            tick()
            cost.append(float(worker.ask(f"{FRAMES} {STACKS}")))
    if not all(cost):  # a probe of its own, as Python Plus has, gives this one nothing to do
        return []
    name = harness.interpreter(interpreter).name
    return [_figure(f"{name}: a stack of {FRAMES} frames", "ns", cost, 2_000)]


def write_loop(interpreter: str, rounds: int, event_ns: float) -> Iterator[Figure]:
    """A loop of GIL release and re-acquire: os.write to /dev/null, two events a turn."""
    name = harness.interpreter(interpreter).name
    blocks, floor = _turns(interpreter, rounds)
    plain = [block for process in blocks["plain"] for block in process]
    recorded = {feed: processes for feed, processes in blocks.items() if feed != "plain"}
    yield _figure(f"{name}: a turn of os.write", "ns", plain)
    for feed, processes in recorded.items():
        told = [block for process in processes for block in process]
        slower = [100 * (b / a - 1) for a, b in zip(plain, told, strict=True)]
        more = [(b - a) / (2 * event_ns) for a, b in zip(plain, told, strict=True)]
        yield _figure(f"{name}, {feed} feed: os.write slower", "%", slower, 12)
        yield _figure("… what it adds / its two events", "x", more, 2)
    events = {
        feed: [(b - a) / 2 for a, b in zip(_calm(blocks["plain"]), _calm(processes), strict=True)]
        for feed, processes in recorded.items()
    }
    for feed, costs in events.items():
        over = [cost - least for cost, least in zip(costs, _calm(floor), strict=True)]
        yield _figure(f"{name}, {feed} feed: an event in os.write", "ns", costs)
        yield _figure("… over its floor", "ns", over, 15)
    if BUILT_IN in events:
        dearer = [a - b for a, b in zip(events[BUILT_IN], events[INTERPOSED], strict=True)]
        low, high = median_interval(dearer)
        note = f"95 % interval of the median {low:.1f} to {high:.1f} ns; judged by its lower bound"
        what = f"… the {BUILT_IN} feed's more than the {INTERPOSED}'s"
        yield _figure(what, "ns", dearer, 0, judged=low, note=note)


Blocks = list[list[float]]  # of each pair of processes, in order


def _turns(interpreter: str, rounds: int) -> tuple[dict[str, Blocks], Blocks]:
    """A turn of os.write plain and recorded by each feed that the interpreter can have; the floor
    of an event. Blocks of equal index are neighbours.
    """
    from gilscope import _native  # noqa: PLC0415 - ctypes

    feeds = (BUILT_IN, INTERPOSED) if harness.interpreter(interpreter).plus else (INTERPOSED,)
    asked = [*((way, "turn") for way in ("plain", *feeds)), ("plain", "floor")]
    blocks: dict[tuple[str, str], Blocks] = {each: [] for each in asked}
    program = (interpreter, LOOP_WORKER, str(_native.probe_path()), str(TURNS))
    for pair in range(PAIRS):
        with ExitStack() as stack, starting_on(cpus()[-1]):
            workers = {"plain": stack.enter_context(_plain(*program))}
            ticks = []
            for feed in _in_turn(feeds, pair):
                workers[feed], tick = stack.enter_context(_recorded(*program, feed=feed))
                ticks.append(tick)
            for each in asked:
                blocks[each].append([])
            for index in range(max(1, rounds // PAIRS)):
                for tick in ticks:
                    tick()
                for way, what in _in_turn(asked, index):
                    blocks[way, what][pair].append(float(workers[way].ask(what)))
    return {way: of for (way, what), of in blocks.items() if what == "turn"}, blocks[asked[-1]]


def _calm(processes: Blocks) -> list[float]:
    """Of each process the tenth percentile of its blocks, which little disturbed.

    Not the best: a hypervisor may give a block less time than it had.
    """
    return [sorted(blocks)[len(blocks) // 10] for blocks in processes]


def echo(interpreter: str, rounds: int) -> Iterator[Figure]:
    """An echo server alone, its client in this process: requests a second lost.

    Once with the client on the server's processor and, where there are two, once on another; first
    to recording, then to counters alone, then to the stacks in a recording. Waking up on another
    processor takes longer than serving and varies more, so of counters and stacks the server's
    processor time is told beside: a server cannot lose more than it works.
    """
    first, *others = cpus()
    places = [(first, "on one CPU"), *((cpu, "on two CPUs") for cpu in others[-1:])]
    name = harness.interpreter(interpreter).name
    for server, where in places:
        losses, _ = _lost_to(RECORDING, interpreter, rounds, first, server)
        yield _loss(f"{name}: requests/s lost by echo, {where}", losses, 3)
    for server, where in places:
        requests, processor = _lost_to(COUNTING, interpreter, rounds, first, server)
        yield _loss(f"{name}: … to counters alone, {where}", requests, 1, upper=True)
        what = "… of its processor time to counters alone"
        yield _loss(f"{name}: {what}, {where}", processor, 1, upper=True)
    for server, where in places:
        requests, processor = _lost_to_stacks(interpreter, rounds, first, server)
        yield _loss(f"{name}: … of it to stacks, {where}", requests, 1)
        what = "… of its processor time to stacks"
        yield _loss(f"{name}: {what}, {where}", processor, 1, upper=True)


def _loss(name: str, losses: Sequence[float], target: float, *, upper: bool = False) -> Figure:
    """Judged by a bound of the interval: by the lower one where nothing else can be shown."""
    low, high = median_interval(losses)
    bound = "upper" if upper else "lower"
    note = f"95 % interval of the median {low:.2f} to {high:.2f} %; judged by its {bound} bound"
    return _figure(name, "%", losses, target, judged=high if upper else low, note=note)


@dataclass(frozen=True)
class Echo:
    """A connection to a server, what keeps rings ahead of it, and its processor time in s."""

    connection: socket.socket
    tick: Callable[[], None]
    worked: Callable[[], float]


def _lost_to(
    watched: str, interpreter: str, rounds: int, client: int, server: int
) -> tuple[list[float], list[float]]:
    """Per cent that the watched of two servers loses, of its requests a second and of its processor
    time: the median of each pair of them.
    """
    requests, processor = [], []
    for pair in range(WATCHED_PAIRS[watched]):
        with ExitStack() as stack:
            with starting_on(server):
                echoes = [
                    stack.enter_context(_echo_server(interpreter, watched=way))
                    for way in _in_turn((None, watched), pair)
                ]
            stack.enter_context(starting_on(client))
            servers = _in_turn(echoes, pair)
            losses, work = [], []
            for index in range(max(2, rounds // PAIRS)):
                servers[1].tick()
                seconds, worked = [0.0, 0.0], [0.0, 0.0]
                for way in _in_turn((0, 1), index):
                    before = servers[way].worked()
                    seconds[way] = _requests(servers[way].connection, REQUESTS)
                    worked[way] = servers[way].worked() - before
                losses.append(100 * (1 - seconds[0] / seconds[1]))
                work.append(100 * (1 - worked[0] / worked[1]))
        requests.append(statistics.median(losses))
        processor.append(statistics.median(work))
    return requests, processor


def _lost_to_stacks(
    interpreter: str, rounds: int, client: int, server: int
) -> tuple[list[float], list[float]]:
    """Per cent that a recorded server loses when it takes stacks, block by block: of its requests
    a second, and of its processor time.

    The code is the same with stacks and without, and a threshold tells. So each server is compared
    with itself, which no two places in memory can disturb; blocks are short, and what is left of
    the drift falls to both: without, with, with, without.
    """
    requests, processor = [], []
    for _ in range(PAIRS):
        with ExitStack() as stack:
            with starting_on(server):
                # By this probe: the one in Python Plus is not ours to switch.
                server_of_ours = _echo_server(interpreter, watched=RECORDING, feed=INTERPOSED)
                echo = stack.enter_context(server_of_ours)
            stack.enter_context(starting_on(client))
            for index in range(max(2, 4 * rounds // PAIRS)):
                echo.tick()
                seconds, worked = {b"+": 0.0, b"-": 0.0}, {b"+": 0.0, b"-": 0.0}
                for word in (b"-", b"+", b"+", b"-") if index % 2 else (b"+", b"-", b"-", b"+"):
                    echo.connection.sendall(word)
                    echo.connection.recv(64)
                    before = echo.worked()
                    seconds[word] += _requests(echo.connection, SHORT)
                    worked[word] += echo.worked() - before
                requests.append(100 * (1 - seconds[b"-"] / seconds[b"+"]))
                processor.append(100 * (1 - worked[b"-"] / worked[b"+"]))
    return requests, processor


# Tells how long its parent, the recorder, stood in the run queue so far: ns.
QUEUED = "read ran queued slices < /proc/$PPID/schedstat && echo $queued || echo 0"


def start_up(rounds: int) -> list[Figure]:
    """From the exec of gilscope to that of its program, as the probe's first stamp tells it.

    Less the time in which it wanted to run and other programs had the processors. That is read by
    the program, a little after its start; what may have been added meanwhile is not taken off.
    Beside it a Python that does nothing: how busy the machine is just now.
    """
    from gilscope.perfetto.reader import open_trace  # noqa: PLC0415 - heavy

    shell = shutil.which("sh")
    if shell is None:
        raise RecordingError("there is no `sh` on PATH to start")
    took, own, nothing = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "start.pftrace")
        command = [*itself(), "record", "--no-summary"]
        command += ["-o", str(trace), shell, "-c", QUEUED]
        for _ in range(rounds + 1):
            begin = time.monotonic_ns()
            done = output_of(command)
            program = open_trace(trace).metadata.processes[0]
            queued = max(0, int(done.stdout) - (program.end_ns - program.start_ns))
            took.append((program.start_ns - begin) / 1e6)
            own.append(took[-1] - queued / 1e6)
            begin = time.monotonic_ns()
            output_of([sys.executable, "-c", "pass"])
            nothing.append((time.monotonic_ns() - begin) / 1e6)
    return [
        _figure("from exec of gilscope to exec of the program", "ms", took[1:]),
        _figure("… of it not spent waiting for a processor", "ms", own[1:], 100),
        _figure("start and end of a Python that does nothing", "ms", nothing[1:]),
    ]


def enter(rounds: int) -> Iterator[Figure]:
    """`gilscope.trace` in a program that gilscope did not start, but the first time."""
    for how in ("alone", "beside"):
        worker = Worker([sys.executable, "-c", ENTER_WORKER, how])
        try:
            took = [float(worker.ask("again")) for _ in range(rounds)]
        finally:
            worker.close()
        where = "alone" if how == "alone" else "beside a thread that computes"
        yield _figure(f"entering gilscope.trace again, {where}", "ms", took, 50)


def machine() -> str:
    """One line: processor, kernel, the probe's clock."""
    from gilscope import _native  # noqa: PLC0415 - ctypes

    clock = ("CLOCK_MONOTONIC", "TSC", "CNTVCT")[_native.probe().gilscope_bench_clock()]
    return f"{harness.machine()}, clock: {clock}"


# ---- workers ----------------------------------------------------------------------


def _plain(interpreter: str, code: str, *arguments: str) -> Worker:
    return Worker([interpreter, "-c", code, *arguments])


@contextmanager
def _recorded(
    interpreter: str, code: str, *arguments: str, feed: str | None = None, watched: str = RECORDING
) -> Iterator[tuple[Worker, Callable[[], None]]]:
    """A worker with the probe in it, and the call that keeps its rings ahead of it.

    Raises RecordingError when not everything was recorded: the figure would flatter.
    """
    from gilscope.recorder.record import STACKS, environment  # noqa: PLC0415 - ctypes
    from gilscope.recorder.session import Session  # noqa: PLC0415

    session = Session()
    if watched == COUNTING:
        session.pause()
    try:
        variables = environment(session)
        variables.pop(STACKS, None)
        if feed is not None:
            variables[FEED] = feed
        with Worker([interpreter, "-c", code, *arguments], variables) as worker:
            session.tick()
            yield worker, session.tick
            if session.stopped and watched == RECORDING:
                raise RecordingError(f"{session.directory.parent} has no room for so many rounds")
    finally:
        session.discard()


@contextmanager
def _echo_server(
    interpreter: str, *, watched: str | None, feed: str | None = None
) -> Iterator[Echo]:
    """An echo server that has answered."""
    from gilscope import _native  # noqa: PLC0415 - ctypes

    probe = str(_native.probe_path())
    with ExitStack() as stack:
        worker, tick = (
            stack.enter_context(
                _recorded(interpreter, ECHO_WORKER, probe, feed=feed, watched=watched)
            )
            if watched
            else (stack.enter_context(_plain(interpreter, ECHO_WORKER, probe)), lambda: None)
        )
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", int(worker.first))))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _requests(connection, REQUESTS)
        clock = ~worker.process.pid << 3 | 2  # clock_getcpuclockid's, of the process
        yield Echo(connection, tick, partial(time.clock_gettime, clock))


def _requests(connection: socket.socket, n: int) -> float:
    start = time.perf_counter()
    for _ in range(n):
        connection.sendall(b"hello")
        connection.recv(64)
    return time.perf_counter() - start


# ---- figures ----------------------------------------------------------------------


def _in_turn(pair: Sequence[T], index: int) -> Sequence[T]:
    return pair if index % 2 == 0 else pair[::-1]


def _figure(
    name: str,
    unit: str,
    values: Sequence[float],
    target: float | None = None,
    *,
    judged: float | None = None,
    note: str = "",
) -> Figure:
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    middle = statistics.median(values)
    return Figure(name, unit, middle, cuts[0], cuts[-1], target, judged, note)


def _show(figure: Figure) -> None:
    spread = f"({figure.low:.1f} to {figure.high:.1f})"
    line = f"{figure.name:<58}{figure.median:9.2f} {figure.unit:<3}{spread:<20}"
    if figure.target is not None:
        line += f"at most {figure.target:g}: {'met' if figure.met else 'MISSED'}"
    print(line.rstrip(), flush=True)
    if figure.note:
        print(f"    {figure.note}", flush=True)
