"""Programs of every kind run as they do alone, recorded and scheduled; nothing of theirs is taken
for CPython's. A part of `make test-hosts`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import cases
from support import interpreters
from support.faults import require_root

import gilscope
from gilscope.perfetto.reader import open_trace
from gilscope.trace.schema import EventKind

# Mutations of the queue that a run of the tests has; `make test-hosts` has all.
SOME_QUEUES = {
    ("3.9", "shared"): cases.QUEUES[:1],
    ("3.11", "static"): cases.QUEUES[1:3],
    ("3.13", "static"): cases.QUEUES,
    ("3.13", "shared"): cases.QUEUES[1:2],
}
READS = re.compile(r"\b(?:gs_copy_safely|gs_copy_racing|gs_readable)\s*\(")
READERS = {
    *("memory", "modules", "python", "find_gil", "names", "frames", "release", "process"),
    "collections",
}
ASKS = re.compile(r"\b(?:dladdr1?|dlopen|dlvsym|dl_iterate_phdr|dlsym)\s*\(")
MAY_ASK = {  # constructors, and what they call
    "bench": {"gilscope_bench_stack"},
    "built_in": {"load"},
    "exec": {"learn_own_path", "resolve"},
    # The last one: also for who has just loaded the library, and looks whether it may.
    "interpose": {"next_version", "resolve", "gs_interpreter_probe", "version_built_in"},
    "limits": {"resolve"},
    "locks": {"resolve"},
    "sleeps": {"resolve"},
    "modules": {"gs_modules_start"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


def ends_as_alone(host: cases.Host, folder: Path) -> None:
    alone = cases.run(host, (), folder)
    assert alone.code == 0, alone
    (folder / "trace.pftrace").unlink(missing_ok=True)
    for way in cases.WAYS.values():
        assert cases.run(host, way, folder) == alone, way
        if way == cases.RECORD:
            trace = gilscope.read(folder / "trace.pftrace")  # checked to be possible
            assert trace.totals.events
            assert trace.metadata.lost_events == 0


@pytest.mark.parametrize("which", range(3))
def test_python_hosts(interpreter: Path, folder: Path, tmp_path: Path, which: int) -> None:
    ends_as_alone(list(cases.python_hosts(interpreter, folder))[which], tmp_path)


@pytest.mark.parametrize(("name", "library"), SOME_QUEUES)
def test_embedding_hosts(name: str, library: str, tmp_path: Path) -> None:
    python = interpreters.path(name)
    assert library in cases.libraries(python)
    for host in cases.embedding_hosts(python, library, tmp_path, SOME_QUEUES[name, library]):
        ends_as_alone(host, tmp_path)
        if host.name.startswith("queue"):
            assert len(open_trace(tmp_path / "trace.pftrace").metadata.gils) == 1


def test_pid_namespaces(interpreter: Path, folder: Path, tmp_path: Path) -> None:
    """Each has the pid of its parent; all are in the trace."""
    require_root()
    host = {host.name: host for host in cases.python_hosts(interpreter, folder)}["pid namespaces"]
    ends_as_alone(host, tmp_path)
    metadata = open_trace(tmp_path / "trace.pftrace").metadata
    parents = [p.parent for p in metadata.processes if p.pid == 1]
    assert len(parents) == 3
    names = {thread.name for thread in metadata.threads}
    assert {"depth 1", "depth 2", "depth 3"} <= names


KILLED_IN_A_NAMESPACE = """
import ctypes, os, signal, threading
ctypes.CDLL(None).unshare(0x20000000)
if os.fork() == 0:  # its first process, which no signal from inside kills
    if os.fork() == 0:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
    os._exit(0)
os.wait()
"""


def test_a_killed_process_of_another_namespace_is_not_waited_for(tmp_path: Path) -> None:
    """Though a process of its pid, 2, lives here."""
    require_root()
    (tmp_path / "killed.py").write_text(KILLED_IN_A_NAMESPACE, encoding="utf-8")
    command = (str(interpreters.path("3.11")), "killed.py")
    outcome = cases.run(cases.Host("killed", command), cases.RECORD, tmp_path)
    assert outcome == cases.Outcome(0, "", "")
    assert [p.pid for p in open_trace(tmp_path / "trace.pftrace").metadata.processes][1:] == [1, 2]


def test_the_threshold_of_stacks_in_another_time_namespace(folder: Path, tmp_path: Path) -> None:
    require_root()
    python = interpreters.path("3.11")
    host = {host.name: host for host in cases.python_hosts(python, folder)}["time namespace"]
    ends_as_alone(host, tmp_path)
    trace = gilscope.read(tmp_path / "trace.pftrace")
    lasted = [*(trace.holds["end_ns"] - trace.holds["start_ns"])]
    lasted += [*(trace.waits["end_ns"] - trace.waits["start_ns"])]
    batches = open_trace(tmp_path / "trace.pftrace").batches()
    stacks = sum(int((batch["kind"] == EventKind.STACK).sum()) for batch in batches)
    assert stacks <= sum(int(ns) >= 990_000 for ns in lasted)


def functions(source: Path) -> dict[str, str]:
    """The text of each function of a C file that clang-format has seen, by its name."""
    found = {}
    text = re.sub(r"__attribute__\(\(.*?\)\) ?", "", source.read_text(encoding="utf-8"))
    for part in re.split(r"^}\n", text, flags=re.MULTILINE):
        heads = re.findall(
            r"^(?!extern|typedef|struct \w+ \{|enum)[\w*(\"][^\n;=]*?(\w+)\([^;{]*\{$",
            part,
            re.MULTILINE,
        )
        if heads:
            found[heads[-1]] = part
    return found


def test_foreign_memory_is_read_in_known_files_alone(root: Path) -> None:
    """What may be CPython's in find_gil, names and frames; the loader's lists in modules, and in
    python the beginning of what they lead to; the calls above on the stack in release; the last
    look at a switch interval in process; the collector, once it is proved, in collections. Nothing
    else has a read that cannot fault, or reads what is not its own: no structure of CPython's is
    known elsewhere.
    """
    sources = list((root / "gilscope" / "probe").glob("*.[ch]"))
    assert {
        path.stem for path in sources if path.suffix == ".c" and READS.search(path.read_text())
    } == READERS
    known = re.compile(
        r"struct (?:gs_gil_memory|object|callback|layout|debug_offsets) \{|struct rlock \{"
    )
    assert {path.stem for path in sources if known.search(path.read_text())} == {
        "find_gil",
        "names",
        "frames",
        "python",
    }


def test_the_loader_is_asked_by_constructors_alone(root: Path) -> None:
    asking = {}
    for path in (root / "gilscope" / "probe").glob("*.c"):
        text = path.read_text(encoding="utf-8").replace("extern void *dlvsym(", "")
        if ASKS.search(text):
            asking[path.stem] = {
                name for name, body in functions(path).items() if ASKS.search(body.split("{", 1)[1])
            }
    assert {name: found for name, found in asking.items() if found} == MAY_ASK


GUARDED = """
import sys, unittest
from test import support
support.verbose = 0
from test import test_threading as tests
names = sys.argv[1:] or None
suite = unittest.defaultTestLoader.loadTestsFromModule(tests) if not names else (
    unittest.TestSuite(getattr(tests, kind)(name) for kind, name in
                       (word.split(".") for word in names)))
result = unittest.TextTestRunner(stream=open("/dev/null", "w")).run(suite)
print(result.testsRun, len(result.failures), len(result.errors))
"""
SOME = (
    *("ThreadTests.test_various_ops", "ThreadTests.test_foreign_thread"),
    *("ThreadTests.test_foreign_thread", "ThreadTests.test_main_thread_after_fork"),
    *("ThreadTests.test_enumerate_after_join", "ThreadTests.test_limbo_cleanup"),
    *("ThreadTests.test_daemon_param", "ThreadingExceptionTests.test_start_thread_again"),
)


def test_guard_pages_around_all_that_the_application_owns(folder: Path, tmp_path: Path) -> None:
    """Every allocation ends at a page that nobody may touch, and is gone when it is freed."""
    guard = cases.shared("guard", folder)
    (tmp_path / "guarded.py").write_text(GUARDED, encoding="utf-8")
    python = interpreters.path("3.13")
    preload = f'LD_PRELOAD="$LD_PRELOAD:{guard}" exec "$@"'
    command = ("sh", "-c", preload, "sh", str(python), "guarded.py", *SOME)
    outcomes = [
        cases.run(cases.Host("guarded", command), way, tmp_path)
        for way in ((), *cases.WAYS.values())
    ]
    assert outcomes[0].out.split() == [str(len(SOME)), "0", "0"], outcomes[0]
    assert outcomes[1:] == outcomes[:1] * 2
    assert gilscope.read(tmp_path / "trace.pftrace").totals.events


def test_who_reads_past_its_allocation_dies(folder: Path) -> None:
    """Else the guard pages prove nothing."""
    guard = cases.shared("guard", folder)
    code = (
        "import ctypes; b = ctypes.create_string_buffer(4096 * 2); print(b[8191]); "
        "libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p; "
        "at = libc.malloc(64); print(ctypes.string_at(at, 64)[:1]); ctypes.string_at(at, 65)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"LD_PRELOAD": str(guard)}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode < 0
    assert len(done.stdout.splitlines()) in (0, 2)
