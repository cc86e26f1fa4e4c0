"""The recorded program runs as if gilscope were not there."""

from __future__ import annotations

import gzip
import os
import pty
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.programs import compiled
from support.recorded import GILSCOPE, record

from gilscope.perfetto.reader import open_trace


def compile_c(folder: Path, name: str, code: str, *flags: str) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None
    (folder / f"{name}.c").write_text(code)
    subprocess.run([compiler, *flags, folder / f"{name}.c", "-o", folder / name], check=True)
    return folder / name


# ---- the way it ends ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('x')", 1),
        ("1/0", 1),
        ("import os; os._exit(9)", 9),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9),
        ("import os; os.kill(os.getpid(), 15)", 128 + 15),
        ("import os; os.abort()", 128 + 6),
        ("import threading, os; threading.Thread(target=os._exit, args=(5,)).start()", 5),
    ],
)
def test_exit_code(tmp_path: Path, code: str, expected: int) -> None:
    done = record(tmp_path, sys.executable, "-c", code)
    assert done.code == expected
    assert done.metadata.exit_code == expected
    assert done.trace.process_stats["unclean"].tolist() == [int(expected > 128)]


def test_daemon_threads_end_with_the_program(interpreter: Path, tmp_path: Path) -> None:
    """They leave from inside their wait for the GIL, or hang there."""
    code = """
        import threading
        def spin():
            while True:
                pass
        for _ in range(3):
            threading.Thread(target=spin, daemon=True).start()
    """
    done = record(tmp_path, interpreter, "-c", textwrap.dedent(code))
    assert (done.code, done.out) == (0, "")
    assert done.trace.metadata.lost_events == 0


# ---- what it is given ---------------------------------------------------------------------------


def test_stdin_and_stdout_are_its_own(interpreter: Path, tmp_path: Path) -> None:
    code = "import sys; print(sys.stdin.read().upper(), end=''); print('e', file=sys.stderr)"
    done = record(tmp_path, interpreter, "-c", code, stdin="one\ntwo\n")
    assert (done.code, done.out) == (0, "ONE\nTWO\n")
    assert done.err.splitlines()[0] == "e"
    assert all(line.startswith("gilscope: ") for line in done.err.splitlines()[1:])


class Terminal:
    """The other end of a program's terminal; what was read and not yet asked for waits here."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._text = ""

    def press(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    def read_until(self, word: str) -> str:
        """All up to and with `word`; fails when the program ends without having said it."""
        while word not in self._text:
            try:
                read = os.read(self._descriptor, 1000)
            except OSError:  # the other end has gone
                read = b""
            assert read, f"no {word!r} in {self._text!r}"
            self._text += read.decode()
        before, _, self._text = self._text.partition(word)
        return before + word


@contextmanager
def on_a_terminal(folder: Path, code: str) -> Iterator[tuple[int, Terminal]]:
    """`gilscope record python -c CODE` as the foreground job of a new terminal: pid, terminal."""
    command = [*GILSCOPE, "record", "--no-summary", "-o", str(folder / "out.pftrace")]
    pid, descriptor = pty.fork()
    if pid == 0:
        try:
            os.execv(command[0], [*command, sys.executable, "-c", textwrap.dedent(code)])
        finally:
            os._exit(127)
    try:
        yield pid, Terminal(descriptor)
    finally:
        os.close(descriptor)


def test_a_terminal_stays_one_and_ctrl_c_comes_once(tmp_path: Path) -> None:
    presses = 6
    # It waits in the kernel: a handler in Python may run late, when the next key has come.
    code = f"""
        import os, signal, sys
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        print("tty", [os.isatty(i) for i in range(3)], os.tcgetpgrp(0) == os.getpgrp(), flush=True)
        for press in range({presses}):
            signal.sigwait([signal.SIGINT])
            print(f"<{{press}}>", flush=True)
        sys.stdin.readline()
        print("left over:", list(signal.sigpending()), flush=True)
    """
    with on_a_terminal(tmp_path, code) as (pid, terminal):
        assert "tty [True, True, True] True" in terminal.read_until("\n")
        for press in range(presses):
            terminal.press(b"\x03")
            # One that came twice would answer the next press, or be left over.
            assert terminal.read_until(">").endswith(f"<{press}>")
        terminal.press(b"\n")
        terminal.read_until("left over: []")
        terminal.read_until("events in")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert open_trace(tmp_path / "out.pftrace").metadata.exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_sent_to_gilscope_reaches_the_program(tmp_path: Path, number: int) -> None:
    code = f"""
        import signal, sys
        signal.signal({number}, lambda *_: sys.exit(7))
        print("ready", flush=True)
        while True:
            signal.pause()
    """
    with subprocess.Popen(
        [
            *(*GILSCOPE, "record", "--no-summary", "-o", tmp_path / "out.pftrace"),
            *(sys.executable, "-c", textwrap.dedent(code)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 7
    assert open_trace(tmp_path / "out.pftrace").metadata.exit_code == 7


def test_what_was_preloaded_stays_preloaded(tmp_path: Path) -> None:
    code = (
        "#include <stdlib.h>\n"
        '__attribute__((constructor)) static void load(void) { setenv("LOADED", "1", 1); }\n'
    )
    library = compile_c(tmp_path, "other.so", code, "-shared", "-fPIC")
    ask = "import os; print(os.environ['LOADED'], os.environ['LD_PRELOAD'])"
    done = record(tmp_path, "/usr/bin/python3", "-c", ask, variables={"LD_PRELOAD": str(library)})
    loaded, preload = done.out.split()
    assert loaded == "1"
    assert re.fullmatch(rf".*_probe\.so:{re.escape(str(library))}", preload)
    assert len(done.metadata.gils) == 1


# ---- how it is started --------------------------------------------------------------------------


def test_a_module_and_a_command_given_as_text(interpreter: Path, tmp_path: Path) -> None:
    for words in (("-m", "timeit", "-n", "1", "pass"), ("-c", "print('loop')")):
        done = record(tmp_path, interpreter, *words)
        assert done.code == 0
        assert "loop" in done.out
        assert done.metadata.command == (str(interpreter), *words)


def test_a_console_script_and_the_name_of_its_trace(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import threading\n"
        "def test_it():\n"
        "    thread = threading.Thread(target=print, name='from-pytest')\n"
        "    thread.start()\n"
        "    thread.join()\n"
    )
    script = Path(sys.executable).with_name("pytest")
    done = subprocess.run(
        [*GILSCOPE, "record", "--no-summary", script, "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "1 passed" in done.stdout
    (trace,) = tmp_path.glob("*.pftrace")
    assert re.fullmatch(r"gilscope-pytest-\d+\.pftrace", trace.name)
    assert "from-pytest" in [thread.name for thread in open_trace(trace).metadata.threads]


def test_what_cannot_be_started(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text("print('never')")
    for command, told in (
        ("no-such-program", "cannot run no-such-program: No such file or directory"),
        (str(script), f"cannot run {script}: Permission denied; did you mean `python {script}`?"),
        (str(tmp_path), f"cannot run {tmp_path}: Permission denied"),
    ):
        done = record(tmp_path, command)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"gilscope: {told}")
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "output",
    [
        "no/such/folder/out.pftrace",
        ".",
        "-",
        "/proc/out.pftrace",
        "notes.txt",
        "notes.gz",
        "n" * 300,
    ],
)
def test_where_nothing_can_be_written_the_program_does_not_run(tmp_path: Path, output: str) -> None:
    code = "open('ran', 'w').close()"
    (tmp_path / "notes.txt").write_text("\nimport gilscope\n")
    (tmp_path / "notes.gz").write_bytes(gzip.compress(b"gilscope"))
    done = subprocess.run(
        [*GILSCOPE, "record", "-o", output, sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "notes.gz"}
    assert (tmp_path / "notes.txt").read_text() == "\nimport gilscope\n"


@pytest.mark.parametrize("name", ["out.pftrace", "out.gz"])
def test_an_earlier_trace_is_overwritten_and_so_is_an_empty_file(tmp_path: Path, name: str) -> None:
    trace = tmp_path / name
    trace.touch()
    for code in (4, 5):
        command = [sys.executable, "-c", f"raise SystemExit({code})"]
        done = subprocess.run(
            [*GILSCOPE, "record", "--no-summary", "-o", trace, *command],
            capture_output=True,
            check=False,
        )
        assert done.returncode == code
        assert open_trace(trace).metadata.exit_code == code


def test_a_trace_that_goes_to_a_device_is_not_read_back(tmp_path: Path) -> None:
    """No summary, no hint how to see it, and the program's exit code."""
    done = subprocess.run(
        [*GILSCOPE, "record", "-o", "/dev/null", sys.executable, "-c", "raise SystemExit(5)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    assert re.fullmatch(r"gilscope: [\d,]+ events in /dev/null\n", done.stderr)


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "MemoryError", "TraceError('torn')"])
def test_a_summary_that_fails_leaves_the_exit_code(tmp_path: Path, error: str) -> None:
    program = f"""
import sys
from gilscope.cli import main, record
from gilscope.errors import TraceError
def fail(trace):
    raise {error}
record._print_summary = fail
sys.exit(main(["record", "-o", "out.pftrace", sys.executable, "-c", "raise SystemExit(5)"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    assert re.match(r"gilscope: no summary: (interrupted|no memory|torn)\ngilscope: ", done.stderr)
    assert open_trace(tmp_path / "out.pftrace").metadata.exit_code == 5


# ---- where there is nothing to record -----------------------------------------------------------


def test_no_python(tmp_path: Path) -> None:
    program = shutil.which("true")
    assert program is not None
    done = record(tmp_path, program)
    assert done.code == 0
    assert f"gilscope: nothing recorded: no Python interpreter ran in {program}" in done.err
    assert done.trace.totals.events == 0
    assert "0 events in" in done.err
    assert "gilscope view" not in done.err


def test_what_to_type_next_is_quoted_for_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "it's mine"
    folder.mkdir()
    done = record(folder, sys.executable, "-c", "")
    words = shlex.split(done.err.partition("see it with: ")[2])
    assert words == ["gilscope", "view", str(done.path)]


def test_a_static_program(tmp_path: Path) -> None:
    program = compile_c(tmp_path, "static", "int main(void) { return 5; }", "-static")
    done = record(tmp_path, program)
    assert done.code == 5
    assert "is statically linked, so nothing can be preloaded into it" in done.err
    assert done.trace.totals.events == 0


@pytest.mark.parametrize("way", ["record", "run"])
def test_a_python_that_is_too_old_is_named(tmp_path: Path, way: str) -> None:
    """By the name of what ran, whatever it was started by, or by the libpython that it needs."""
    compile_c(tmp_path, "python3.7", "int main(void) { return 5; }")
    (tmp_path / "python").symlink_to("python3.7")
    compile_c(tmp_path, "libpython2.7.so.1.0", "int answer(void) { return 6; }", "-shared", "-fPIC")
    needs = ("-L.", "-l:libpython2.7.so.1.0", "-Wl,-rpath," + str(tmp_path))
    code = "int answer(void);\nint main(void) { return answer(); }"
    (tmp_path / "embeds.c").write_text(code)
    subprocess.run(["gcc", "embeds.c", "-o", "embeds", *needs], cwd=tmp_path, check=True)
    options = {"record": ("--no-summary",), "run": ("--policy", "io-priority")}[way]
    for command, told in (
        (("./python",), "./python runs Python 3.7"),
        (("sh", "-c", "./python || exit $?"), "./python runs Python 3.7"),
        (("./embeds",), "./embeds runs Python 2.7"),
    ):
        done = subprocess.run(
            [*GILSCOPE, way, *options, *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == (6 if "embeds" in told else 5)
        assert f"{told}; gilscope records 3.9 and later\n" in done.stderr


def test_what_the_user_left_out_is_named_where_nothing_is_left(tmp_path: Path) -> None:
    command = ("sh", "-c", f"{sys.executable} -c pass; true")
    done = record(tmp_path, *command, options=("--no-follow",))
    told = "no Python interpreter ran in sh; --no-follow left out what it started"
    assert f"gilscope: nothing recorded: {told}\n" in done.err


# ---- children -----------------------------------------------------------------------------------

FAMILY = """
import os, subprocess, sys, threading
pid = os.fork()
if pid == 0:
    thread = threading.Thread(target=len, args=((),), name="in-the-fork")
    thread.start()
    thread.join()
    os._exit(0)
os.waitpid(pid, 0)
child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                       stdout=subprocess.PIPE, universal_newlines=True)
print(os.getpid(), pid, child.stdout.strip())
"""


def test_children_are_recorded(interpreter: Path, tmp_path: Path) -> None:
    done = record(tmp_path, interpreter, "-c", FAMILY)
    assert done.code == 0, done.err
    root, forked, started = map(int, done.out.split())
    metadata = done.trace.metadata
    assert {process.pid for process in metadata.processes} == {root, forked, started}
    by_pid = {process.pid: process for process in metadata.processes}
    assert by_pid[forked].parent == by_pid[root].id
    assert [gil.process for gil in metadata.gils] == [0, 1, 2]
    assert done.thread("in-the-fork").process == by_pid[forked].id
    assert metadata.lost_events == 0
    assert not done.trace.process_stats["unclean"].any()


def test_no_follow(interpreter: Path, tmp_path: Path) -> None:
    done = record(tmp_path, interpreter, "-c", FAMILY, options=("--no-follow",))
    root, *_ = map(int, done.out.split())
    assert [process.pid for process in done.trace.metadata.processes] == [root]


# ---- the rings ----------------------------------------------------------------------------------


def test_rings_are_private_and_go_away(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    code = """
        import os
        rings = os.environ["GILSCOPE_RINGS"]
        print(rings, os.stat(os.path.dirname(rings)).st_mode, os.stat(rings).st_mode)
    """
    variables = {"GILSCOPE_DIR": str(place)}
    done = record(tmp_path, sys.executable, "-c", textwrap.dedent(code), variables=variables)
    rings, folder_mode, file_mode = done.out.split()
    assert Path(rings).parent.parent == place
    assert stat.S_IMODE(int(folder_mode)) == 0o700
    assert stat.S_IMODE(int(file_mode)) == 0o600
    assert list(place.iterdir()) == []


def test_max_size_stops_the_recording_and_not_the_program(
    interpreter: Path, tmp_path: Path
) -> None:
    code = """
        import os
        null = os.open("/dev/null", os.O_WRONLY)
        for _ in range(100_000):
            os.write(null, b"x")
        print("done")
    """
    done = record(tmp_path, interpreter, "-c", textwrap.dedent(code), options=("--max-size", "1M"))
    assert (done.code, done.out) == (0, "done\n")
    assert "gilscope: recording stopped at 1 MiB (--max-size); the program went on" in done.err
    trace = done.trace
    assert trace.metadata.stopped == "max-size"
    assert trace.metadata.lost_events == 0
    assert 30_000 < trace.totals.events < 65_536


def test_a_program_that_closes_every_descriptor(interpreter: Path, tmp_path: Path) -> None:
    code = "import os; os.closerange(3, 1000); os.write(1, b'x'); [os.stat('.') for _ in range(9)]"
    done = record(tmp_path, interpreter, "-c", code)
    assert (done.code, done.out) == (0, "x")
    assert done.trace.thread_stats["acquires"].max() > 9


def test_what_a_killed_recorder_leaves_can_be_recovered(interpreter: Path, tmp_path: Path) -> None:
    code = """
        import os, sys, time
        print(os.getpid(), time.monotonic_ns(), flush=True)
        sys.stdin.readline()
        print(time.monotonic_ns(), flush=True)
    """
    place = tmp_path / "place"
    place.mkdir()
    with subprocess.Popen(
        [*GILSCOPE, "record", interpreter, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "GILSCOPE_DIR": str(place)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        pid, begin = map(int, process.stdout.readline().split())
        process.kill()
        process.wait()
        process.stdin.write("\n")
        process.stdin.flush()
        end = int(process.stdout.readline())
        assert process.stdout.read() == ""  # the program has ended, too
    (directory,) = place.iterdir()
    trace = tmp_path / "out.pftrace"
    subprocess.run([*GILSCOPE, "recover", directory, "-o", trace], check=True, capture_output=True)
    source = open_trace(trace)
    assert [p.pid for p in source.metadata.processes] == [pid]
    times = [int(t) for batch in source.batches() for t in batch["time_ns"]]
    assert min(times) < begin
    # Its last signs of life are around its last words: the clock's rate is right.
    assert any(abs(t - end) < 1_000_000 for t in times)


ALLOCATOR = """
#include <pthread.h>
#include <stddef.h>
extern void *__libc_malloc(size_t size);
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond;
static int ready;
void *malloc(size_t size) {
    pthread_mutex_lock(&mutex);
    if (!ready && !pthread_cond_init(&cond, NULL))
        ready = 1;
    pthread_mutex_unlock(&mutex);
    return __libc_malloc(size);
}
"""


def test_an_allocator_that_begins_with_a_condition_variable(tmp_path: Path) -> None:
    """As jemalloc does, with its lock held: whoever asks for memory then waits for ever."""
    source = tmp_path / "allocator.c"
    source.write_text(ALLOCATOR, encoding="utf-8")
    library = compiled(source, tmp_path / "allocator.so", "gcc", "-shared", "-fPIC")
    done = record(
        tmp_path, sys.executable, "-c", "print(1)", variables={"LD_PRELOAD": str(library)}
    )
    assert (done.code, done.out) == (0, "1\n")
    assert done.trace.metadata.lost_events == 0
