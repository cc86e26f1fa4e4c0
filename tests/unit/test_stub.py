"""The stub as bytes: it may be copied anywhere, and does what it is there for and nothing else."""

from __future__ import annotations

import ctypes
import mmap
import struct
import subprocess
from pathlib import Path

import pytest

from gilscope.attach.blob import (
    ARMED,
    CALLED,
    DONE,
    LOADER_IS_BUSY,
    NO_LIBRARY,
    Filled,
    Request,
    stub,
)
from gilscope.attach.slack import PAGE

_Unlock = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_Open = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
_Symbol = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_Function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)

_OURS, _LOCK, _LIBRARY, _LATE = 0x1000, 0x2000, 0x3000, 0x4000


def test_it_refers_to_nothing_outside_of_itself(root: Path) -> None:
    library = root / "gilscope" / "_engine.so"
    sections = _run("readelf", "-SW", library)
    (line,) = (line for line in sections.splitlines() if " gs_stub " in line)
    start, size = (int(line.split("PROGBITS")[1].split()[i], 16) for i in (0, 2))
    assert size == len(stub().code)
    relocations = _run("readelf", "-rW", library)
    places = [
        int(words[0], 16)
        for line in relocations.splitlines()
        if (words := line.split()) and len(words) > 2 and len(words[0]) == 16
    ]
    assert places
    assert not [place for place in places if start <= place < start + size]
    code = _run("objdump", "-d", "-j", "gs_stub", "--no-show-raw-insn", library)
    jumps = [
        int(target, 16)
        for line in code.splitlines()
        if "\t" in line
        and (words := line.split("\t")[-1].split())
        and words[0].startswith(("j", "call"))
        and (target := words[1].split(",")[0]).isalnum()
    ]
    assert jumps
    assert all(start <= jump < start + size for jump in jumps)
    assert size < PAGE // 2


class Copy:
    """The stub in memory of its own, and a process to call it in: this one."""

    def __init__(self, locks_are_free: bool = True, has_library: bool = True) -> None:
        self.calls: list[str] = []
        self.memory = mmap.mmap(-1, 2 * PAGE, prot=7)
        self.at = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.state = (ctypes.c_uint64 * 2)(ARMED, 0)
        self.locked = ctypes.c_int(1)
        self.thread_state = (ctypes.c_uint64 * 32)()
        self.holder = ctypes.c_void_p(ctypes.addressof(self.thread_state))
        self.errno = ctypes.c_int(77)
        self.seen: tuple[bytes, ...] = ()
        self._kept = [
            _Unlock(lambda mutex: self._note(f"unlock {mutex:#x}", 0)),
            _Unlock(lambda mutex: self._note(f"try {mutex:#x}", 0 if locks_are_free else 16)),
            ctypes.CFUNCTYPE(ctypes.c_void_p)(lambda: ctypes.addressof(self.errno)),
            _Open(lambda name, _: self._note(f"open {name.decode()}", _LIBRARY * has_library)),
            _Symbol(self._symbol),
            _Function(self._function),
        ]
        unlock, trylock, errno, opened, symbol, _ = (
            ctypes.cast(one, ctypes.c_void_p).value or 0 for one in self._kept
        )
        image = Filled(
            mutex=_OURS,
            locked=ctypes.addressof(self.locked),
            holder=ctypes.addressof(self.holder),
            state=ctypes.addressof(self.state),
            unlock=unlock,
            trylock=trylock,
            errno_location=errno,
            open=opened,
            symbol=symbol,
            locks=(_LOCK, _LOCK + 40),
            python=0x77,
        ).image(self.at, "/there/it.so", "begin", Request("/rings", "off", "classic", "9"))
        self.memory[: len(image)] = image
        self.call = _Unlock(self.at + stub().unlock)

    def is_ours(self) -> None:
        """The thread state is this thread's."""
        pthread_self = ctypes.CDLL(None).pthread_self
        pthread_self.restype = ctypes.c_uint64
        self.thread_state[19] = pthread_self()

    @property
    def progress(self) -> int:
        return self.state[0] & 0xFFFFFFFF

    def _note(self, call: str, result: int) -> int:
        self.errno.value = 5
        self.calls.append(call)
        return result

    def _symbol(self, library: int, name: bytes) -> int:
        assert library == _LIBRARY
        if name == b"gilscope_late":
            return _LATE
        return ctypes.cast(self._kept[5], ctypes.c_void_p).value or 0

    def _function(self, request: int) -> int:
        assert self.progress == CALLED
        texts = struct.unpack("<5Q", ctypes.string_at(request, 40))
        assert texts[4] == 0x77
        self.seen = tuple(ctypes.string_at(text) for text in texts[:4])
        return self._note("function", 41)


@pytest.fixture
def copy() -> Copy:
    return Copy()


def test_a_thread_that_has_just_taken_the_gil_makes_the_call(copy: Copy) -> None:
    copy.is_ours()
    assert copy.call(_OURS) == 0
    assert copy.calls == [
        f"unlock {_OURS:#x}",
        f"try {_LOCK:#x}",
        f"try {_LOCK + 40:#x}",
        "open /there/it.so",
        "function",
        f"unlock {_LOCK + 40:#x}",
        f"unlock {_LOCK:#x}",
    ]
    assert copy.seen == (b"/rings", b"off", b"classic", b"9")
    assert copy.progress == DONE
    assert (copy.state[0] >> 32, copy.state[1]) == (41, _LATE)


def test_once_alone(copy: Copy) -> None:
    copy.is_ours()
    copy.call(_OURS)
    copy.calls.clear()
    copy.call(_OURS)
    assert copy.calls == [f"unlock {_OURS:#x}"]


def test_any_other_unlock_is_passed_on(copy: Copy) -> None:
    copy.call(_OURS)  # the GIL's last holder is another thread
    copy.is_ours()
    copy.call(_LOCK)  # another mutex
    copy.locked.value = 0
    copy.call(_OURS)  # it was let go
    copy.locked.value = 1
    copy.holder.value = None
    copy.call(_OURS)
    assert copy.calls == [f"unlock {mutex:#x}" for mutex in (_OURS, _LOCK, _OURS, _OURS)]
    assert copy.progress == ARMED


def test_nothing_is_opened_while_somebody_is_in_the_loader() -> None:
    copy = Copy(locks_are_free=False)
    copy.is_ours()
    copy.call(_OURS)
    assert copy.calls == [f"unlock {_OURS:#x}", f"try {_LOCK:#x}"]
    assert copy.progress == LOADER_IS_BUSY


def test_a_library_that_is_not_there() -> None:
    copy = Copy(has_library=False)
    copy.is_ours()
    copy.call(_OURS)
    assert copy.progress == NO_LIBRARY
    assert copy.calls[-2:] == [f"unlock {_LOCK + 40:#x}", f"unlock {_LOCK:#x}"]


_LED = r"""
#include <stdint.h>
#include <string.h>
/* Calls `direct` from a place where every register has a value, and compares. */
static uint64_t after[16];
static double floats[2];
int led(void *direct, void **resume) {
    register double x __asm__("xmm7") = 1.25;
    *resume = &&back;
    __asm__ volatile goto(
        "movq $0x5151515151515151, %%r11\n movq %%r11, -64(%%rsp)\n"
        "movq $3, %%rax\n movq $4, %%rcx\n movq $6, %%rsi\n movq $8, %%r8\n movq $9, %%r9\n"
        "movq $10, %%r10\n movq $11, %%r11\n"
        "jmp *%0\n"
        : : "D"(direct), "x"(x)
        : "rax", "rcx", "rsi", "r8", "r9", "r10", "r11", "memory" : back);
    return -1;
back:
    __asm__ volatile("movq %%rax, %0\n" : "=m"(after[0]));
    __asm__ volatile("movq %%rcx, %0\n" : "=m"(after[1]));
    __asm__ volatile("movq %%r11, %0\n" : "=m"(after[2]));
    __asm__ volatile("movsd %%xmm7, %0\n" : "=m"(floats[0]));
    __asm__ volatile("movq -64(%%rsp), %%rax\n movq %%rax, %0\n" : "=m"(after[3]) : : "rax");
    return after[0] == 3 && after[1] == 4 && after[2] == 11 && floats[0] == 1.25 &&
           after[3] == 0x5151515151515151u;
}
"""


def test_a_thread_that_is_led_there_finds_everything_as_it_was(copy: Copy, tmp_path: Path) -> None:
    (tmp_path / "led.c").write_text(_LED)
    _run("gcc", "-O0", "-shared", "-fPIC", "-o", tmp_path / "led.so", tmp_path / "led.c")
    led = ctypes.PyDLL(str(tmp_path / "led.so")).led
    led.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    own = stub()
    assert led(copy.at + own.direct, copy.at + own.words + 176) == 1
    assert copy.progress == DONE
    assert "function" in copy.calls


def _run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
