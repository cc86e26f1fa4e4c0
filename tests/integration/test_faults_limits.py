"""Machines without room: recording gives way, the program does not notice."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import interpreters
from support.faults import (
    GILSCOPE,
    WORK,
    limited,
    memory_folder,
    recording,
    require_root,
    run,
    same,
    script,
    thread_names,
)

import gilscope
from gilscope.analysis.summary import summarise
from gilscope.trace.model import Trace

PYTHON = interpreters.path("3.13")
BUSY = f"{WORK}\ncrew()\nwork(400_000)\nprint('done')\nopen('left.txt', 'w').write('behind')\n"
CALM = f"{WORK}\ncrew()\nprint('done')\nopen('left.txt', 'w').write('behind')\n"


def in_a_namespace(setup: str) -> tuple[str, ...]:
    """For `within`: mounts that nobody else sees."""
    rights = () if os.geteuid() == 0 else ("--map-root-user",)
    return ("unshare", *rights, "--mount", "sh", "-c", f'{setup} && exec "$@"', "sh")


@pytest.mark.parametrize("kib", [2200, 3000, 5000])
def test_a_file_system_that_is_nearly_full(tmp_path: Path, kib: int) -> None:
    """What the rings had room for is in the trace, and one line says why it is not more."""
    small = tmp_path / "small"
    small.mkdir()
    recorded = same(
        tmp_path,
        [PYTHON, script(tmp_path, BUSY)],
        environment={"GILSCOPE_DIR": str(small)},
        within=in_a_namespace(f"mount -t tmpfs -o size={kib}k none {small}"),
    )
    trace = recorded.trace()
    assert trace.metadata.stopped in ("little-room", "disk-full")
    assert recorded.said("the program went on")
    assert not recorded.said("max-size")
    expect_nothing_made_up(trace)


def test_a_file_system_that_fills_up_meanwhile(tmp_path: Path) -> None:
    """The rest of the room goes to somebody else as soon as the program begins."""
    small = tmp_path / "small"
    small.mkdir()
    fill = f"""
import os
with open({str(small / "other")!r}, "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
"""
    recorded = same(
        tmp_path,
        [PYTHON, script(tmp_path, f"{fill}{WORK}\ncrew()\nwork(2_400_000)\n")],
        environment={"GILSCOPE_DIR": str(small)},
        within=in_a_namespace(f"mount -t tmpfs -o size=300m none {small}"),
    )
    trace = recorded.trace()
    assert trace.metadata.stopped == "disk-full"
    assert recorded.said("is full; the program went on")
    assert "crew-0" in thread_names(trace)


# What one thread did before the limit, and what another did long after it.
BEHIND = """
import os, threading, time
def early():
    for _ in range(60_000):
        os.stat("/")
    time.sleep(0.3)
def late():
    for _ in range(1_000):
        os.stat("/")
for work in (early, late):
    thread = threading.Thread(target=work, name=work.__name__)
    thread.start()
    thread.join()
"""


def test_what_comes_behind_a_stop_is_unknown(tmp_path: Path) -> None:
    """Threads count on, begin and end there; that they do moves nothing."""
    recorded = same(tmp_path, [PYTHON, script(tmp_path, BEHIND)], options=("--max-size", "1M"))
    trace = recorded.trace()
    (gil,) = trace.metadata.gils
    last = trace.holds["end_ns"][trace.holds["gil"] == gil.id].max()
    assert trace.metadata.stopped_ns is not None
    assert abs(int(last) - trace.metadata.stopped_ns) < 50_000_000
    (early,) = (t for t in trace.metadata.threads if t.name == "early")
    stopped_for = early.end_ns - trace.metadata.stopped_ns
    assert stopped_for > 300_000_000
    (process,) = summarise(trace)["processes"]
    unknown = {t["name"]: t["unknown_ns"] for t in process["threads"]}
    assert unknown["early"] == stopped_for
    assert all(t["life_ns"] == t["unknown_ns"] for t in process["threads"] if t["name"] == "late")


def test_the_limit_that_the_user_set(tmp_path: Path) -> None:
    recorded = same(tmp_path, [PYTHON, script(tmp_path, BUSY)], options=("--max-size", "2M"))
    trace = recorded.trace()
    assert trace.metadata.stopped == "max-size"
    assert recorded.said("recording stopped at 2 MiB (--max-size); the program went on")
    assert trace.totals.events > 50_000
    expect_nothing_made_up(trace)


def expect_nothing_made_up(trace: Trace) -> None:
    """From the stop to the process's end there is a gap, and in it no hold, wait or share."""
    metadata = trace.metadata
    (process,), (gil,) = metadata.processes, summarise(trace)["processes"][0]["gils"]
    assert metadata.stopped_ns is not None
    assert metadata.start_ns < metadata.stopped_ns < process.end_ns
    for intervals in (trace.holds, trace.waits):
        assert (intervals["end_ns"] <= metadata.stopped_ns).all()
    *_, last = trace.gaps
    assert (last["start_ns"], last["end_ns"]) == (metadata.stopped_ns, process.end_ns)
    assert gil["unknown_ns"] == process.end_ns - metadata.stopped_ns
    assert 0 < gil["held_ns"] <= metadata.stopped_ns - process.start_ns
    threads = summarise(trace)["processes"][0]["threads"]
    main = next(t for t in threads if t["name"] == "MainThread")
    assert main["unknown_ns"] == gil["unknown_ns"]


def test_no_place_for_the_rings(tmp_path: Path) -> None:
    """The program runs, unrecorded, and one line says so."""
    recorded = same(
        tmp_path,
        [PYTHON, script(tmp_path, CALM)],
        environment={"GILSCOPE_DIR": str(tmp_path / "nowhere")},
    )
    assert len(recorded.outcome.said) == 1
    assert recorded.said("set GILSCOPE_DIR to a directory with room")
    assert not recorded.path.exists()


def test_no_room_for_the_trace(tmp_path: Path) -> None:
    """The exit code is the program's; the rings are kept and can be recovered from."""
    small = tmp_path / "small"
    small.mkdir()
    with memory_folder() as rings:
        source = script(tmp_path, f"{BUSY}raise SystemExit(3)\n")
        outcome = run(
            [
                *in_a_namespace(f"mount -t tmpfs -o size=16k none {small}"),
                *recording(small / "trace.pftrace", [PYTHON, source]),
            ],
            tmp_path / "run",
            {"GILSCOPE_DIR": str(rings)},
        )
        assert (outcome.code, outcome.stdout, outcome.stderr) == (3, "done\n", "")
        assert outcome.files == {"left.txt": b"behind"}
        (line,) = outcome.said
        found = re.search(r"gilscope recover (\S+) -o FILE", line)
        assert found
        recovered = tmp_path / "recovered.pftrace"
        again = run([*GILSCOPE, "recover", found[1], "-o", recovered], tmp_path / "recover")
        assert again.code == 0
        assert "crew-0" in thread_names(gilscope.read(recovered))


# ulimit's units: -f 1024 bytes (sh: 512), -v KiB, -n descriptors. All of gilscope runs under them.
LIMITS = {
    "size of files": "ulimit -f 16384",
    "small size of files": "ulimit -f 200",
    "descriptors": "ulimit -n 20",
    "address space": "ulimit -v 1000000",
    "little address space": "ulimit -v 250000",
    "locked memory": "ulimit -l 0",
    "core files": "ulimit -c 0",
}


@pytest.mark.parametrize("limit", LIMITS)
def test_limits_around_gilscope(tmp_path: Path, limit: str) -> None:
    recorded = same(tmp_path, [PYTHON, script(tmp_path, CALM)], within=limited(LIMITS[limit]))
    if recorded.path.exists():
        assert "crew-0" in thread_names(recorded.trace())
    else:
        assert recorded.said("gilscope recover") or recorded.said("runs without")


def test_small_rings_under_a_limit_around_gilscope(tmp_path: Path) -> None:
    """Four times what they hold is in the trace, or counted: they are used again meanwhile."""
    source = 'import os\nfor _ in range(600_000):\n    os.stat("/")'
    within = limited("ulimit -v 500000")
    recorded = same(tmp_path, [PYTHON, script(tmp_path, source)], within=within)
    trace = gilscope.read(recorded.path)
    if trace.metadata.stopped:
        assert (trace.metadata.stopped, trace.metadata.lost_events) == ("limits", 0)
    else:
        assert trace.totals.events + trace.metadata.lost_events >= 2 * 600_000


OWN_LIMITS = {
    "FSIZE": "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))",
    "NOFILE": "resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))",
    "AS": "resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))",
    "AS, and use it": "resource.setrlimit(resource.RLIMIT_AS, (6 << 27, 6 << 27)); bytes(1 << 28)",
    "AS of its pid": "resource.prlimit(os.getpid(), resource.RLIMIT_AS, (6 << 27, 6 << 27)); "
    "bytes(1 << 28)",
    "MEMLOCK": "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))",
    "STACK": "resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))",
    "CPU": "resource.setrlimit(resource.RLIMIT_CPU, (100, 100))",
}


@pytest.mark.parametrize("limit", OWN_LIMITS)
def test_limits_that_the_program_sets_itself(tmp_path: Path, limit: str) -> None:
    """They do not touch what is mapped already: nothing is lost."""
    source = f"import os, resource\n{OWN_LIMITS[limit]}\n{CALM}"
    recorded = same(tmp_path, [PYTHON, script(tmp_path, source)])
    assert "crew-2" in thread_names(recorded.trace())


def test_a_limit_in_a_subshell(tmp_path: Path) -> None:
    """A fork that is no Python: it has the mapping, and will never write there."""
    megabytes = 'head -c 4000000 /dev/zero | tr "\\0" x'
    shell = f"{PYTHON} -c pass; (ulimit -v 400000 && x=$({megabytes}) && echo ${{#x}}); echo $?"
    recorded = same(tmp_path, ["sh", "-c", shell])
    assert recorded.outcome.stdout == "4000000\n0\n"


def test_a_program_that_locks_its_memory(tmp_path: Path) -> None:
    """The rings are not locked, not filled, and not too long for what it may lock."""
    require_root()
    source = f"""
import ctypes, resource
{WORK}
def locked():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmLck"))
work(100_000)
print(ctypes.CDLL(None).mlockall(3), 0 < locked() < 1 << 18)
work(400_000)
"""
    recorded = same(tmp_path, [PYTHON, script(tmp_path, source)])
    assert recorded.outcome.stdout == "0 True\n"
    assert recorded.trace().totals.events > 1_000_000


def test_a_program_that_runs_into_its_limit_of_files(tmp_path: Path) -> None:
    """SIGXFSZ and its exit code are the program's own; the recorder's files know no limit."""
    source = f"""
import resource, signal
{WORK}
crew()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with open("big.bin", "wb", buffering=0) as file:
    file.write(bytes(4096))
    crew()
    file.write(b"one too many")
"""
    recorded = same(tmp_path, [PYTHON, script(tmp_path, source)])
    assert recorded.outcome.code == 128 + 25


def test_all_descriptors_closed(tmp_path: Path) -> None:
    source = f"""
import os
{WORK}
os.closerange(0, 1024)
crew()
os._exit(6 if os.open("left.txt", os.O_CREAT | os.O_WRONLY) == 0 else 7)
"""
    recorded = same(tmp_path, [PYTHON, script(tmp_path, source)])
    assert recorded.outcome.code == 6  # the lowest descriptor was free: the probe keeps none
    assert "crew-2" in thread_names(recorded.trace())


CGROUPS = Path("/sys/fs/cgroup")


@contextmanager
def memory_cgroup(size: int) -> Iterator[Path]:
    """A memory cgroup below our own, of either version."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path.lstrip("/")
    first = "memory" in own
    base = CGROUPS / "memory" / own["memory"] if first else CGROUPS / own[""]
    group = base / f"gilscope-test-{os.getpid()}"
    group.mkdir()
    try:
        limit = group / ("memory.limit_in_bytes" if first else "memory.max")
        limit.write_text(str(size), encoding="ascii")
        yield group
    finally:
        group.rmdir()


@pytest.mark.parametrize("mib", [64, 128])
def test_a_memory_cgroup(tmp_path: Path, mib: int) -> None:
    """Rings count against it: they take a part of what is free, and nobody is killed."""
    require_root()
    with memory_cgroup(mib << 20) as group:
        recorded = same(
            tmp_path,
            [PYTHON, script(tmp_path, BUSY)],
            within=("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"),
        )
        assert "crew-0" in thread_names(recorded.trace())
