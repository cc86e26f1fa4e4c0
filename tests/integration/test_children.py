"""Children of every make are in the one trace: a process each, on one clock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import interpreters
from support.faults import (
    WORK,
    Recording,
    await_line,
    recording,
    rings_folder,
    run,
    same,
    script,
    thread_names,
)
from support.programs import compiled, hello

import gilscope
from gilscope.perfetto.tracks import Numbers
from gilscope.trace.model import Trace

TOLERANCE_NS = 100_000  # a stamp is taken while its process holds the GIL

# Every process stamps the clock while it holds the GIL: the parent before it sends, the child when
# it has received, and the parent again when the answer is there.
FAMILY = f"""
import multiprocessing, os, subprocess, sys, time
{WORK}

def stamp(what):
    now = time.monotonic_ns()
    with open(os.path.join(os.environ["STAMPS"], f"{{now}}-{{what}}-{{os.getpid()}}"), "w"):
        pass

def child(receive, send):
    assert receive() == b"question"
    stamp("received")
    crew()
    stamp("answered")
    send(b"answer")

def through_pipes(make):
    "Calls make(fd to read from, fd to write to), which returns a way to wait for the child."
    (down, to_child), (from_child, up) = os.pipe(), os.pipe()
    for descriptor in (down, up):
        os.set_inheritable(descriptor, True)
    wait = make(down, up)
    stamp("sent")
    os.write(to_child, b"question")
    assert os.read(from_child, 99) == b"answer"
    stamp("heard")
    wait()

def by_command(run):
    through_pipes(lambda *pipes: run([sys.executable, __file__, "child", *map(str, pipes)]))

def by_subprocess(close_fds):
    def run(command):
        kept = () if not close_fds else tuple(map(int, command[-2:]))
        process = subprocess.Popen(command, close_fds=close_fds, pass_fds=kept)
        return lambda: print(process.wait())
    by_command(run)

def waited_for(pid):
    return lambda: print(os.waitpid(pid, 0)[1])

def by_fork():
    def make(down, up):
        pid = os.fork()
        if pid == 0:
            child(lambda: os.read(down, 99), lambda data: os.write(up, data))
            os._exit(0)
        return waited_for(pid)
    through_pipes(make)

def by_exec():
    "A fork that becomes another program, and that again another."
    def make(down, up):
        pid = os.fork()
        if pid == 0:
            crew(1)
            os.execv("/bin/sh", ["sh", "-c", 'exec "$@"', "sh", sys.executable, __file__,
                                 "child", str(down), str(up)])
        return waited_for(pid)
    through_pipes(make)

def by_multiprocessing(method):
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs.recv_bytes, theirs.send_bytes))
    process.start()
    stamp("sent")
    ours.send_bytes(b"question")
    assert ours.recv_bytes() == b"answer"
    stamp("heard")
    process.join()
    print(process.exitcode)

WAYS = {{
    "subprocess": lambda: by_subprocess(True),
    "vfork": lambda: by_subprocess(False),
    "system": lambda: by_command(lambda command: (lambda: None)
                                 if os.system(" ".join(command) + " &") == 0 else None),
    "posix_spawn": lambda: by_command(
        lambda command: waited_for(os.posix_spawn(command[0], command, os.environ))),
    "fork": by_fork,
    "exec": by_exec,
    "mp-fork": lambda: by_multiprocessing("fork"),
    "mp-forkserver": lambda: by_multiprocessing("forkserver"),
    "mp-spawn": lambda: by_multiprocessing("spawn"),
}}

if __name__ == "__main__":
    if sys.argv[1] == "child":
        down, up = map(int, sys.argv[2:])
        child(lambda: os.read(down, 99), lambda data: os.write(up, data))
    else:
        WAYS[sys.argv[1]]()
"""
WAYS = (
    "subprocess",
    "vfork",
    "system",
    "posix_spawn",
    "fork",
    "exec",
    "mp-fork",
    "mp-forkserver",
    "mp-spawn",
)


def holds_of_pid(trace: Trace, pid: int, at_ns: int) -> bool:
    """Whether a thread of a process with this pid held its GIL then."""
    processes = {p.id for p in trace.metadata.processes if p.pid == pid}
    threads = [t.id for t in trace.metadata.threads if t.process in processes]
    holds = trace.holds
    inside = (holds["start_ns"] - TOLERANCE_NS <= at_ns) & (at_ns <= holds["end_ns"] + TOLERANCE_NS)
    return any(thread in threads for thread in holds["thread"][inside].tolist())


@pytest.mark.parametrize("python", ["3.9", "3.13", interpreters.PLUS])
@pytest.mark.parametrize("way", WAYS)
def test_a_child_and_its_messages(tmp_path: Path, way: str, python: str) -> None:
    stamps = tmp_path / "stamps"
    stamps.mkdir()
    program = script(tmp_path, FAMILY)
    recorded = same(
        tmp_path,
        [interpreters.path(python), program, way],
        environment={"STAMPS": str(stamps)},
    )
    trace = recorded.trace()
    processes = trace.metadata.processes
    assert [p.id for p in processes] == list(range(len(processes)))
    assert int(trace.process_stats["unclean"].sum()) == 0
    # The plain run came first: its four stamps are not in the trace.
    told = [path.name.split("-") for path in sorted(stamps.iterdir())]
    assert len(told) == 8
    recent = [(int(now), what, int(pid)) for now, what, pid in told[4:]]
    assert [what for _, what, _ in recent] == ["sent", "received", "answered", "heard"]
    for now, what, pid in recent:
        assert holds_of_pid(trace, pid, now), what
    parent, child = recent[0][2], recent[1][2]
    assert processes[0].pid == parent != child
    # An exec begins a new process of the same pid: the last one is the one that answered.
    images = [p.id for p in processes if p.pid == child]
    assert {"crew-0", "crew-1", "crew-2"} <= set(thread_names(trace, images[-1]))


def recorded_family(tmp_path: Path, way: str, *options: str) -> Recording:
    stamps = tmp_path / "stamps"
    stamps.mkdir()
    return same(
        tmp_path,
        [interpreters.path("3.13"), script(tmp_path, FAMILY), way],
        environment={"STAMPS": str(stamps)},
        options=options,
    )


@pytest.mark.parametrize("way", ["subprocess", "fork"])
def test_no_follow(tmp_path: Path, way: str) -> None:
    trace = recorded_family(tmp_path, way, "--no-follow").trace()
    assert len(trace.metadata.processes) == 1
    assert "crew-0" not in thread_names(trace)


def test_a_daemon_outlives_the_command(tmp_path: Path) -> None:
    """Forked twice, in a session of its own, without a descriptor; the recording waits."""
    here = tmp_path / "told"
    source = f"""
import os, sys
{WORK}
parent = os.getpid()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        while os.getppid() == parent:
            os.sched_yield()
        crew()
        with open({str(here)!r}, "w") as fifo:
            fifo.write("daemon is done")
    os._exit(0)
os.wait()
print("command is done")
"""
    os.mkfifo(here)
    heard: list[str] = []
    recorded = same(
        tmp_path,
        [interpreters.path("3.13"), script(tmp_path, source)],
        during=lambda process: heard.append(await_line(here)),
    )
    assert heard == ["daemon is done"] * 2
    trace = recorded.trace()
    assert len(trace.metadata.processes) == 3
    assert thread_names(trace, 2) == ["MainThread", "crew-0", "crew-1", "crew-2"]


def test_another_python(tmp_path: Path) -> None:
    """3.13 starts 3.9, which becomes Debian's: three versions in one trace."""
    last = f"import sys\n{WORK}\ncrew()\nsys.exit(9)"
    middle = "import os, sys\nos.execv(sys.argv[1], sys.argv[1:])"
    older, debian = interpreters.path("3.9"), interpreters.path(interpreters.DEBIAN)
    command = [str(older), "-c", middle, str(debian), "-c", last]
    source = f"import subprocess\n{WORK}\ncrew()\nprint(subprocess.run({command!r}).returncode)\n"
    trace = same(tmp_path, [interpreters.path("3.13"), script(tmp_path, source)]).trace()
    versions = [(p.python or "")[:4] for p in trace.metadata.processes]
    assert versions == ["3.13", "3.9.", "3.11"]
    assert trace.metadata.processes[1].pid == trace.metadata.processes[2].pid
    assert "crew-2" in thread_names(trace, 2)


def test_a_script_that_env_starts_is_one_process(tmp_path: Path) -> None:
    """The kernel runs env, and env becomes Python."""
    python = interpreters.path("3.13")
    source = f"#!/usr/bin/env python3\n{WORK}\ncrew()\n"
    (program := script(tmp_path, source)).chmod(0o755)
    path = f"{python.parent}:{os.environ['PATH']}"
    trace = same(tmp_path, [program], environment={"PATH": path}).trace()
    (process,) = trace.metadata.processes
    assert (process.interpreter, process.id) == ("gil", 0)
    assert [thread.process for thread in trace.metadata.threads] == [0] * 4
    numbers = Numbers()
    numbers.grow(trace.metadata)
    pids = numbers.pids
    assert pids == [process.pid]


@pytest.mark.parametrize(
    ("compiler", "options"),
    [("gcc", ()), ("musl-gcc", ()), ("gcc", ("-m32",)), ("gcc", ("-static",))],
    ids=["glibc", "musl", "32-bit", "static"],
)
@pytest.mark.parametrize("start", ["subprocess.run(['{0}'])", "os.system('{0}')", "os.spawnv"])
def test_children_that_are_not_python(
    tmp_path: Path, compiler: str, options: tuple[str, ...], start: str
) -> None:
    """They run, and nobody prints a line more than alone."""
    program = compiled(hello(tmp_path), tmp_path / "hello", compiler, *options)
    call = "os.spawnv(os.P_WAIT, '{0}', ['{0}'])" if start == "os.spawnv" else start
    source = f"import os, subprocess\nprint({call.format(program)}, flush=True)\n"
    recorded = same(tmp_path, [interpreters.path("3.13"), script(tmp_path, source)])
    assert "hello from C\n" in recorded.outcome.stdout
    assert len(recorded.outcome.said) == 1


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_the_pool_example(tmp_path: Path, root: Path, method: str) -> None:
    """Its output is a rate, so there is nothing to compare: the trace has every worker."""
    trace_path = tmp_path / "trace.pftrace"
    example = root / "examples" / "process_pool.py"
    command = [
        interpreters.path("3.13"),
        example,
        "--seconds",
        "0.2",
        "--workers",
        "3",
        "--method",
        method,
    ]
    with rings_folder() as rings:
        outcome = run(
            recording(trace_path, command), tmp_path / "run", {"GILSCOPE_DIR": str(rings)}
        )
    assert (outcome.code, outcome.stderr) == (0, "")
    trace = gilscope.read(trace_path)
    assert trace.metadata.lost_events == 0
    acquires = {gil.process: trace.gil_stats["acquires"][gil.id] for gil in trace.metadata.gils}
    parent, *others = (int(acquires.get(p.id, 0)) for p in trace.metadata.processes)
    assert sum(count > 10 for count in others) >= 3
    assert parent > 10
