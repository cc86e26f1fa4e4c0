"""A process read from outside: what is not asked of an interpreter."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gilscope.errors import NotAllowed, NotAttachable, ProcessGone, Unsupported
from gilscope.live import tasks
from gilscope.live.layouts import _TABLES, PUBLISHED, LineTable
from gilscope.live.lines import line_at
from gilscope.live.memory import Memory, explain
from gilscope.live.modules import find_python, mappings, modules

_NONE = "NONE"


def _rows(source: str, name: str) -> list[list[str]]:
    """The rows of an array of C, flattened."""
    body = re.search(rf"\}} {name}\[\] = \{{\n(.*?)\n\}};", source, re.DOTALL)
    assert body is not None
    return [
        [word.strip() for word in re.sub(r"[{}]", "", line).split(",") if word.strip()]
        for line in body.group(1).splitlines()
    ]


def test_tables_are_those_of_the_probe(root: Path) -> None:
    rows = _rows((root / "gilscope/probe/frames.c").read_text(), "tables")
    assert [int(row[0]) for row in rows] == [minor for _, minor in _TABLES]
    for (version, its), row in zip(_TABLES.items(), rows, strict=True):
        expected = [
            *(version[1], its.thread_id, its.frame, its.frame_in_cframe),
            *(its.previous, its.code, its.at, its.owner),
            *(its.file, its.function, its.first_line, its.lines, its.instructions),
            *(its.text, its.owner_c, its.line_table.name, its.at_unit),
            str(its.code_is_object).lower(),
        ]
        assert [_NONE if one is None else str(one) for one in expected] == row
        assert its.version == version


def test_published_words_are_those_of_the_probe(root: Path) -> None:
    rows = _rows((root / "gilscope/probe/frames.c").read_text(), "published")
    assert [int(row[0]) for row in rows] == [minor for _, minor in PUBLISHED]
    for its, row in zip(PUBLISHED.values(), rows, strict=True):
        expected = [
            *(its.frame, its.thread_id, its.previous, its.code, its.at, its.owner),
            *(its.file, its.function, its.lines, its.first_line, its.instructions),
        ]
        assert expected == [int(word) for word in row[1:]]


def test_lines_are_what_this_interpreter_says() -> None:
    """This one's own tables; the older sorts are read in their interpreters."""
    assert sys.version_info >= (3, 10)
    kind = LineTable.RANGES if sys.version_info < (3, 11) else LineTable.LOCATIONS
    seen = 0
    for function in (line_at, subprocess.run, subprocess.Popen._communicate, re.compile):
        code = function.__code__
        for begin, end, line in code.co_lines():
            for at in range(begin, end, 2):
                told = line_at(kind, code.co_linetable, code.co_firstlineno, at)
                if line is not None:
                    assert told == line
                    seen += 1
    assert seen > 500


def test_reads_what_is_there_and_nothing_else() -> None:
    word = ctypes.create_string_buffer(b"\x2a" + b"x" * 8191, 8192)
    at = ctypes.addressof(word)
    with Memory(os.getpid()) as memory:
        assert memory.read(at, 3) == b"*xx"
        assert memory.word(at) == int.from_bytes(b"*xxx", "little")
        assert memory.read(0, 8) is None
        assert memory.read(8, 8) is None
        assert memory.read(1 << 47, 8) is None
        assert memory.read((1 << 64) - 4, 8) is None
        assert memory.read(at, -1) is None
        assert memory.read(at, 1 << 40) is None
        last = max(one.end for one in mappings(os.getpid()) if one.end < 1 << 47)
        assert memory.read(last - 8, 16) is None
        memory._by_call = False  # as where a filter forbids the call
        assert memory.read(at, 3) == b"*xx"
        assert memory.read(8, 8) is None
        assert memory.read(last - 8, 16) is None
    assert memory.read(at, 3) is None  # it is closed


def test_cuts_a_read_at_the_first_hole() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    at = libc.mmap(None, ctypes.c_size_t(3 * 4096), 3, 0x22, -1, ctypes.c_size_t(0))
    assert libc.munmap(at + 4096, 4096) == 0
    with Memory(os.getpid()) as memory:
        assert memory.readable(at + 16, 2 * 4096) == bytes(4096 - 16)
        assert memory.read(at + 16, 2 * 4096) is None
    assert libc.munmap(at, 4096) == 0
    assert libc.munmap(at + 8192, 4096) == 0


def _ended() -> int:
    """A pid that nobody has."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_nobody_is_there() -> None:
    with pytest.raises(ProcessGone, match="there is no process") as told:
        Memory(_ended())
    assert told.value.exit_code == 4


def test_a_zombie_has_no_memory() -> None:
    child = subprocess.Popen(["/bin/true"])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert tasks.state(child.pid) == "Z"
        with pytest.raises(ProcessGone):
            find_python(Memory(child.pid))
    finally:
        child.wait()


def test_another_program_has_no_python() -> None:
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        _until(lambda: Path(f"/proc/{child.pid}/exe").resolve().name in ("sleep", "coreutils"))
        with (
            Memory(child.pid) as memory,
            pytest.raises(Unsupported, match="no Python") as told,
        ):
            find_python(memory)
        assert told.value.exit_code == 4
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("user", "scope", "line"),
    [
        (12345, 0, "belongs to another user"),
        (0, 0, "SYS_PTRACE"),
        (0, 3, "ptrace_scope is 3"),
        (None, 1, "sysctl kernel.yama.ptrace_scope=0"),
        (None, 0, "PR_SET_DUMPABLE"),
    ],
)
def test_who_may_not_is_told_why(
    user: int | None, scope: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gilscope.live.memory._owner", lambda pid: 7)
    monkeypatch.setattr("gilscope.live.memory._ptrace_scope", lambda: scope)
    monkeypatch.setattr(os, "geteuid", lambda: 7 if user is None else user)
    error = explain(99, PermissionError(1, "no"))
    assert isinstance(error, NotAllowed)
    assert line in str(error)
    assert "\n" not in str(error)


def test_any_other_error_is_named() -> None:
    error = explain(os.getpid(), OSError(5, "Input/output error"))
    assert type(error) is NotAttachable
    assert "Input/output error" in str(error)


def test_calls_and_states_of_threads() -> None:
    reader, writer = os.pipe()
    thread = threading.Thread(target=os.read, args=(reader, 1), name="reader")
    thread.start()
    tid = thread.native_id
    assert tid is not None
    _until(lambda: (call := tasks.call(os.getpid(), tid)) is not None and not call.is_futex)
    call = tasks.call(os.getpid(), tid)
    assert call is not None
    assert call.arguments[0] == reader
    assert tasks.tids(os.getpid())[tid] == tid
    assert tasks.state(os.getpid(), tid) == "S"
    os.write(writer, b"x")
    thread.join()  # has Python's word; the kernel's thread is gone a little later
    _until(lambda: tasks.state(os.getpid(), tid) is None)
    assert tasks.call(os.getpid(), tid) is None


def test_a_stopped_process_is_told() -> None:
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        child.send_signal(signal.SIGSTOP)
        _until(lambda: tasks.state(child.pid) == "T")
    finally:
        child.kill()
        child.wait()


def test_slots_and_symbols_are_the_loaders() -> None:
    """Against dlsym and against what the slot holds, in this very process."""
    libc = ctypes.CDLL(None)
    with Memory(os.getpid()) as memory:
        loaded = {one.path: one.elf for one in modules(memory)}
        its = next(elf for path, elf in loaded.items() if re.search(r"/libc[.-]", path))
        symbol = its.symbol("getpid")
        assert symbol is not None
        assert symbol.address == ctypes.cast(libc.getpid, ctypes.c_void_p).value
        assert symbol.size > 0
        assert its.symbol("no_such_symbol_at_all") is None
        python = find_python(memory).module.elf
        slots = python.slots("sem_post", "pthread_cond_timedwait", "no_such_symbol_at_all")
        assert sorted(slots) == ["pthread_cond_timedwait", "sem_post"]
        for at in (at for places in slots.values() for at in places):
            holds = memory.pointer(at)
            assert holds is not None
            owners = [elf for elf in loaded.values() if elf.start <= holds < elf.end]
            assert owners
        assert python.build_id is None or re.fullmatch("[0-9a-f]{16,}", python.build_id)


def _until(reached: object, patience_s: float = 30.0) -> None:
    assert callable(reached)
    end = time.monotonic() + patience_s
    while not reached():
        assert time.monotonic() < end, "the state that is waited for did not come"
        time.sleep(0.005)
