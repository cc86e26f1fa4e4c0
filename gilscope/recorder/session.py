"""One recording's directory: the ring file, kept ahead of its writers, and notes beside it.

Imports nothing heavy: it stands between the user's command and the program's start.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gilscope import _native
from gilscope.errors import RecordingError
from gilscope.recorder import left
from gilscope.recorder.notes import DISK_FULL, LIMITS, LITTLE_ROOM, MAX_SIZE, RINGS

UNIT = 4096
FIRST_UNIT = 16  # of the rooms
LEAST_BYTES = 1024 * 1024
MOST_BYTES = 1024 * 1024 * 1024  # the default of --max-size: 64 M events
CLOCK_PERIOD_S = 1.0
MOST_STANDING = 1024  # threads, of those that hold or wait for long
_NAME_BYTES = 199  # of a thread's; struct gs_thread_page

# Of struct gs_file_header; a test compares them.
_ROOT_PID_OFFSET = 20
_STOP_OFFSET = 28
_KEPT_FROM_OFFSET = 72
_ORDINAL_OFFSET = 12  # of struct gs_chunk_header
_COMMAND_OFFSET = 160  # of struct gs_process_page
_INTERPRETERS = ("none", "gil", "free-threaded")  # enum gs_interpreter_state


def free_bytes(place: str | Path) -> int:
    """Bytes that this user may still write in a file system."""
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def allowed_bytes() -> int:
    """Bytes that rings may take of what limits this process: files, address space, memory."""
    allowed = [sys.maxsize]
    for limit, part in ((resource.RLIMIT_FSIZE, 1), (resource.RLIMIT_AS, 32)):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            allowed.append(soft // part)  # gs_ring_share: the probe maps no more, and more is lost
    # Pages in memory count against whoever touches them first, and that is the recorder.
    allowed += [memory // 4 for memory in cgroup_limits()]
    return min(allowed)


def cgroup_limits() -> Iterator[int]:
    """The memory limits of this process's cgroup and of those above it, versions 1 and 2."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = Path("/sys/fs/cgroup", *(["memory"] if controllers else []))
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):
            file_name = "memory.limit_in_bytes" if controllers else "memory.max"
            try:
                yield int((top / folder / file_name).read_text(encoding="ascii"))
            except (OSError, ValueError):  # not visible from in here, or "max"
                continue


def choose_directory() -> Path:
    """Where rings live: memory-backed if possible, private to the user.

    `GILSCOPE_DIR` decides, else the first of /dev/shm, $XDG_RUNTIME_DIR and the temporary
    directory that can be written to and has room. Raises RecordingError.
    """
    asked = os.environ.get("GILSCOPE_DIR")
    usual = ["/dev/shm", os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("TMPDIR"), "/tmp"]
    problems = []
    for place in filter(None, [asked] if asked else usual):
        try:
            if free_bytes(place) < 2 * LEAST_BYTES:
                problems.append(f"{place}: full")
                continue
            directory = Path(os.path.abspath(place), f"gilscope-{os.urandom(6).hex()}")
            directory.mkdir(mode=0o700)
            return directory
        except OSError as error:
            problems.append(f"{place}: {error.strerror}")
    raise RecordingError(
        f"no place for the recording's rings ({'; '.join(problems)}); "
        "set GILSCOPE_DIR to a directory with room"
    )


class Image(NamedTuple):
    """Of one process image what a diagnosis needs; fields as those of schema.Process."""

    command: tuple[str, ...]
    interpreter: str


class Standing(NamedTuple):
    """A hold or wait that does not end; of `enum gs_standing_kind`."""

    pid: int  # as the process knows itself
    tid: int
    kind: int
    for_ns: int
    is_new: bool  # it is open for the whole of it, and was not told as that before


class _StandingRow(ctypes.Structure):
    _fields_ = (
        ("for_ns", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("is_new", ctypes.c_uint32),
    )


class Session:
    """The rings of one recording while it runs.

    `max_bytes` limits them; by default to 1 GiB or half of what their file system has free. With
    `reuse` what is oldest makes room for what is new, so that recording never stops.
    """

    def __init__(
        self,
        max_bytes: int | None = None,
        follow: bool = True,
        reuse: bool = False,
        directory: Path | None = None,
        remove: Callable[[], None] | None = None,
    ) -> None:
        """Make the ring file, and its directory unless there is one, which `remove` removes. Raises
        RecordingError, InstallationError.
        """
        self._remove = remove
        self._engine = _engine()  # before there is anything that a failure would leave behind
        self._rooms: int | None = None
        self._watch: int | None = None
        self._standing: int | None = None
        self.directory = directory or choose_directory()
        self.path = self.directory / RINGS
        self.disk_full = False
        self._pids_here: dict[tuple[int, float], int | None] = {}
        try:
            limit, self.limit = min(
                (max_bytes or MOST_BYTES, MAX_SIZE),
                (sys.maxsize if max_bytes else free_bytes(self.directory) // 2, LITTLE_ROOM),
                (allowed_bytes(), LIMITS),
                key=lambda candidate: candidate[0],
            )
            self.limit_bytes = max(limit, LEAST_BYTES) // UNIT * UNIT
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o600)
            left.lock(self._fd)
            os.truncate(self._fd, self.limit_bytes)
            # The header and the offers: a store without that is SIGBUS.
            os.posix_fallocate(self._fd, 0, FIRST_UNIT * UNIT)
            self._map = mmap.mmap(self._fd, self.limit_bytes)
        except OSError as error:
            self.discard()
            raise RecordingError(
                f"cannot make the rings in {self.directory}: {error.strerror}"
            ) from error
        self._pointer = ctypes.c_char.from_buffer(self._map)
        self._header = ctypes.addressof(self._pointer)
        self._rooms = self._engine.gs_rooms_create(
            self._header, self._fd, self.limit_bytes // UNIT, int(follow), int(reuse)
        )
        if not self._rooms:
            self.discard()
            raise MemoryError
        if self._engine.gs_rooms_start(self._rooms):
            self.discard()
            raise RecordingError(f"no room for the recording's rings in {self.directory.parent}")
        self._next_clock = 0.0  # at the first tick: one snapshot alone tells no rate

    def begin(self, root_pid: int) -> None:
        """Note the process that --no-follow confines the recording to."""
        struct.pack_into("<I", self._map, _ROOT_PID_OFFSET, root_pid)

    def tick(self) -> None:
        """Keep the rings ahead of their writers; call it every few milliseconds."""
        if time.monotonic() >= self._next_clock:
            self._engine.gs_rooms_clock(self._header)
            self._next_clock = time.monotonic() + CLOCK_PERIOD_S
        if self._engine.gs_rooms_tick(self._rooms):
            # Whatever it is, the program goes on: a writer that needs more stops the recording.
            self.disk_full = True

    def keep(self, seconds: float) -> None:
        """Take back what is older than that."""
        self._engine.gs_rooms_keep_ns(self._rooms, int(seconds * 1e9))

    def pause(self) -> None:
        """Record nothing but counters until `resume`; before the program starts."""
        self._engine.gs_rooms_pause(self._rooms)

    def resume(self) -> None:
        """Record from now on. What is open at this moment is not known."""
        self._engine.gs_rooms_begin(self._rooms)

    def watch(self, metrics: int, ns: int) -> None:
        """Look for waits and holds (bits of enum gs_watch_metric) that are longer."""
        self._watch = self._engine.gs_watch_open(self._rooms, metrics, ns)
        if not self._watch:
            raise MemoryError

    def longest(self) -> int:
        """The longest of them since the last look, in ns; 0: none."""
        return int(self._engine.gs_watch_look(self._rooms, self._watch))

    def standing(self, ns: int) -> list[Standing]:
        """The holds and waits that have been open for half of so long; see recorder/standing.c."""
        if not self._standing:
            self._standing = self._engine.gs_standing_open(self._rooms)
            if not self._standing:
                return []
        rows = (_StandingRow * MOST_STANDING)()
        n = self._engine.gs_standing_look(self._rooms, self._standing, ns, rows, len(rows))
        return [
            Standing(row.pid, row.tid, row.kind, row.for_ns, bool(row.is_new)) for row in rows[:n]
        ]

    def stream(self) -> None:
        """Take back what a reader says it has, in the header's `safe_before`."""
        self._engine.gs_rooms_stream(self._rooms)

    def forget(self, ticks: int) -> None:
        """Take back what is older than this time stamp: it is safe elsewhere."""
        self._engine.gs_rooms_forget(self._rooms, ticks)

    @property
    def kept_from(self) -> int:
        """The cut, in ticks; 0: nothing was taken back."""
        return int(struct.unpack_from("<Q", self._map, _KEPT_FROM_OFFSET)[0])

    def stop(self) -> None:
        """Let no more events be written, and stamp the clocks a last time."""
        self._engine.gs_rooms_stop(self._rooms)
        self._engine.gs_rooms_clock(self._header)

    def stop_for_good(self) -> None:
        """As `stop`; a probe that came late goes. Each process that goes on ends here, for the
        recording.
        """
        self._engine.gs_rooms_stop_for_good(self._rooms)
        self._engine.gs_rooms_tick(self._rooms)
        self._engine.gs_rooms_end_processes(self._rooms)
        self._engine.gs_rooms_clock(self._header)

    def name(self, pid: int, tid: int, name: str) -> bool:
        """Give a thread that the probe found there its name; numbers as the process knows them.
        Whether the thread has a page.
        """
        text = name.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore").encode()
        return bool(self._engine.gs_rooms_name(self._rooms, pid, tid, text))

    def give_to(self, uid: int, gid: int) -> None:
        """Let another user's process write to the rings, and nobody else. The directory stays
        this user's: what is written there is not to be led elsewhere. Raises OSError.
        """
        os.chown(self.path, uid, gid)
        os.chmod(self.directory, 0o711)

    def recorded(self) -> list[int]:
        """Pids, each in its own namespace, of all processes that have a page."""
        return list(dict.fromkeys(pid for _, pid, _ in self._process_pages()))

    @property
    def stopped(self) -> str | None:
        """Why nothing more is recorded (MAX_SIZE …), or None while it goes on."""
        (stop,) = struct.unpack_from("<I", self._map, _STOP_OFFSET)
        if not stop:
            return None
        return DISK_FULL if self.disk_full else self.limit

    @property
    def used_bytes(self) -> int:
        """Bytes of the rings that are not free."""
        return int(self._engine.gs_rooms_used(self._rooms)) * UNIT

    def living_processes(self) -> list[int]:
        """Pids, each in its own namespace, of recorded Python processes that have not ended yet."""
        import psutil  # noqa: PLC0415 - not needed before the program has run

        from gilscope.recorder.alive import pid_here  # noqa: PLC0415

        candidates: dict[int, tuple[bool, float]] = {}
        for at, pid, image in self._process_pages():
            start_ns, end_ticks = struct.unpack_from("<QQ", self._map, at + 56)
            # The last page of a pid tells what it is now: an exec leaves one behind.
            candidates[pid] = (image.interpreter == "gil" and not end_ticks, start_ns / 1e9)

        def lives(pid: int, since: float) -> bool:
            if (pid, since) not in self._pids_here:  # once: it may cost a look at all processes
                self._pids_here[pid, since] = pid_here(pid, self.path)
            if (here := self._pids_here[pid, since]) is None:
                return False
            try:
                process = psutil.Process(here)
                # One that was created later only has the same pid.
                return process.create_time() < since + 1 and process.status() != "zombie"
            except psutil.Error:
                return False

        return [pid for pid, (may, since) in candidates.items() if may and lives(pid, since)]

    @property
    def images(self) -> list[Image]:
        """What the probe was in, in the order of their beginning."""
        return [image for _, _, image in self._process_pages()]

    def _process_pages(self) -> Iterator[tuple[int, int, Image]]:
        """Offset and pid of each process page, and what it tells; in the order of their start."""
        n = self._engine.gs_rooms_processes(self._rooms, None, 0)
        units = (ctypes.c_uint32 * n)()
        self._engine.gs_rooms_processes(self._rooms, units, n)
        pages = [
            (struct.unpack_from("<I", self._map, unit * UNIT + _ORDINAL_OFFSET), unit)
            for unit in units
        ]
        for _, unit in sorted(pages):
            at = unit * UNIT
            pid, _, interpreter = struct.unpack_from("<III", self._map, at + 16)
            (size,) = struct.unpack_from("<I", self._map, at + _COMMAND_OFFSET - 4)
            words = self._map[at + _COMMAND_OFFSET : at + _COMMAND_OFFSET + size].split(b"\0")
            command = tuple(map(os.fsdecode, words[:-1]))
            yield at, pid, Image(command, _INTERPRETERS[min(interpreter & 0xFF, 2)])

    def discard(self) -> None:
        """Remove the directory and all that is in it. A process may have the rings mapped still: it
        keeps none of their memory.
        """
        import shutil  # noqa: PLC0415 - not needed before the program has run

        rooms, self._rooms = self._rooms, None
        if rooms:
            self._engine.gs_rooms_give_back(rooms)
        if self._remove:
            self._remove()
        else:
            shutil.rmtree(self.directory, ignore_errors=True)
        watch, self._watch = self._watch, None
        standing, self._standing = self._standing, None
        if rooms and hasattr(mmap, "MADV_REMOVE"):
            rest = FIRST_UNIT * UNIT
            with contextlib.suppress(OSError):  # not every file system can
                self._map.madvise(mmap.MADV_REMOVE, rest, self.limit_bytes - rest)
        self._engine.gs_watch_close(watch)
        self._engine.gs_standing_close(standing)
        self._engine.gs_rooms_close(rooms)


def _engine() -> ctypes.CDLL:
    engine = _native.engine()
    pointer, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    engine.gs_rooms_create.argtypes = [pointer, ctypes.c_int, u64, u32, u32]
    engine.gs_rooms_create.restype = pointer
    engine.gs_rooms_close.argtypes = [pointer]
    engine.gs_rooms_close.restype = None
    for name in ("start", "tick", "stop", "pause", "begin", "clock", "stream", "give_back"):
        getattr(engine, f"gs_rooms_{name}").argtypes = [pointer]
    for name in ("stop_for_good", "end_processes"):
        getattr(engine, f"gs_rooms_{name}").argtypes = [pointer]
        getattr(engine, f"gs_rooms_{name}").restype = None
    engine.gs_rooms_name.argtypes = [pointer, u32, u32, ctypes.c_char_p]
    engine.gs_rooms_name.restype = ctypes.c_bool
    for name in ("stop", "pause", "begin", "clock", "stream", "keep_ns", "forget", "give_back"):
        getattr(engine, f"gs_rooms_{name}").restype = None
    engine.gs_rooms_keep_ns.argtypes = [pointer, u64]
    engine.gs_rooms_forget.argtypes = [pointer, u64]
    engine.gs_rooms_used.argtypes = [pointer]
    engine.gs_rooms_used.restype = u64
    engine.gs_watch_open.argtypes = [pointer, u32, u64]
    engine.gs_watch_open.restype = pointer
    engine.gs_watch_look.argtypes = [pointer, pointer]
    engine.gs_watch_look.restype = u64
    engine.gs_watch_close.argtypes = [pointer]
    engine.gs_watch_close.restype = None
    engine.gs_standing_open.argtypes = [pointer]
    engine.gs_standing_open.restype = pointer
    engine.gs_standing_look.argtypes = [pointer, pointer, u64, pointer, u64]
    engine.gs_standing_look.restype = u64
    engine.gs_standing_close.argtypes = [pointer]
    engine.gs_standing_close.restype = None
    engine.gs_rooms_processes.argtypes = [pointer, pointer, u64]
    engine.gs_rooms_processes.restype = u64
    return engine
