"""One thread computes in short atomic sections, another wants the GIL again and again.

    python section_program.py KIND SECONDS

Kinds: sleep, pipe (it comes back from a sleep, from a pipe), refused (as sleep; from the second
section on the kernel executes no fences), handlers (as sleep; signal handlers with sections and
sleeps of their own run all the while), forks (as sleep; in a fork's child of the computing thread).

Prints the longest wait for the GIL in ns, less what the kernel kept either thread from a processor
meanwhile, and how many waits there were. Runs by itself: gilscope is found by PYTHONPATH.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import struct
import sys
import threading
import time
import warnings

from gilscope import atomic

kind, seconds = sys.argv[1], float(sys.argv[2])
SLEEP_S = 0.001
now = time.monotonic_ns

# Calls that keep the GIL: what is measured must not let it go.
keeping = ctypes.PyDLL(None, use_errno=True)


class Schedule:
    """How long a thread was kept from a processor so far, as the kernel counts, in ns."""

    def __init__(self, tid: int) -> None:
        self.file = os.open(f"/proc/self/task/{tid}/schedstat", os.O_RDONLY)
        self.buffer = ctypes.create_string_buffer(96)

    def delayed(self) -> int:
        """Read without letting the GIL go."""
        length = keeping.pread(self.file, self.buffer, 96, ctypes.c_long(0))
        return int(self.buffer.raw[:length].split()[1])


def forbid_membarrier() -> None:
    """From now on it fails with EPERM."""
    lines = [(0x20, 0, 0, 0), (0x15, 0, 1, 324), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
    program = b"".join(struct.pack("<HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(program)
    head = struct.pack("<HxxxxxxQ", len(lines), ctypes.addressof(buffer))
    assert keeping.prctl(38, 1, 0, 0, 0) == 0
    assert keeping.syscall(317, 1, 1, head) == 0  # seccomp, of all threads


def handle(*_: object) -> None:
    """In a section of its own, or in the one that it came into; it may block."""
    with atomic:
        if random.random() < 0.2:
            time.sleep(0)


def compute(end: int) -> None:
    """Many short sections, and a longer one now and then."""
    while now() < end:
        for _ in range(200):
            with atomic:
                pass
        with atomic:
            for _ in range(random.randrange(2000)):
                pass


def measure(end: int, computing: int) -> tuple[int, int]:
    """Want the GIL until the end. The longest wait (ns) and the number of them."""
    own, its = Schedule(threading.get_native_id()), Schedule(computing)
    longest = waits = 0
    read, write = os.pipe()
    while True:
        excused = own.delayed() + its.delayed()
        begin = now()
        if begin > end:
            return longest, waits
        if kind == "pipe":
            keeping.write(write, b"x", ctypes.c_size_t(1))
            os.read(read, 1)
        else:
            time.sleep(SLEEP_S)
            begin += int(SLEEP_S * 1e9)
        wait = now() - begin
        wait -= own.delayed() + its.delayed() - excused
        longest, waits = max(longest, wait), waits + 1


def play() -> tuple[int, int]:
    """The thread that computes is the main one, which has the handlers."""
    end = now() + int(seconds * 1e9)
    found: list[tuple[int, int]] = []
    computing = threading.get_native_id()
    thread = threading.Thread(target=lambda: found.append(measure(end, computing)))
    thread.start()
    compute(end)
    thread.join()
    return found[0]


with atomic:
    pass
if kind == "refused":
    threading.Timer(seconds / 3, forbid_membarrier).start()
if kind == "handlers":
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
if kind == "forks":
    warnings.simplefilter("ignore")  # of forks beside threads
    beside = threading.Thread(target=measure, args=(now() + 10**8, threading.get_native_id()))
    beside.start()
    compute(now() + 5 * 10**7)
    sys.stdout.flush()
    with atomic:
        pid = os.fork()
    if pid:
        beside.join()
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
found = play()
signal.setitimer(signal.ITIMER_REAL, 0)
print(*found, flush=True)
