"""Ring files made by hand, byte by byte, from nothing but the specification in event_abi.h.

    rings = RingFile()
    process = rings.process(pid=10)
    thread = rings.thread(process, tid=10, records=[record(ACQUIRE, at=5, sequence=0)])
    source = rings.open(tmp_path)

The clock is CLOCK_MONOTONIC itself, so ticks are nanoseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from gilscope.recorder.notes import RINGS, Notes
from gilscope.trace.rings import RingSource, open_rings
from gilscope.trace.schema import EventKind

UNIT = 4096
FIRST_UNIT = 16
CHUNK_UNITS = 16
START = 1_000_000
MAGIC = 0x31474E4952534731
PROCESS_PAGE, THREAD_PAGE, EVENT_CHUNK = 0x50534731, 0x54534731, 0x45534731
RECORDS_IN_PAGE = 234
RECORDS_AT = 352  # in a thread's page


def record(  # noqa: PLR0917 - the fields of a record, in order
    kind: EventKind, at: int, sequence: int = 0, gil: int = 0, flags: int = 0, arg: int = 0
) -> bytes:
    """One record; `at` is ns after the recording's start, `arg` the number of waiters."""
    payload = sequence << 24 | gil << 14 | flags << 12 | arg
    return struct.pack("<QQ", (START + at) << 6 | kind, payload)


class RingFile:
    """What the probe would have left; `data` may be damaged at will before it is opened."""

    def __init__(self, units: int = 256) -> None:
        self.data = bytearray(units * UNIT)
        self.next_unit = FIRST_UNIT
        self.serials: dict[int, int] = {0: 0}  # of processes, by unit
        header = struct.pack("<QIIIIIIQQ", MAGIC, 4, 0, 1, 10, 1, 0, 0, units)
        self.data[: len(header)] = header
        struct.pack_into("<Q", self.data, 64, units)
        struct.pack_into("<I", self.data, 192, 1)
        struct.pack_into("<QQQQ", self.data, 256, START, START, START + 7, START + 9)

    def take(self, units: int) -> int:
        """The unit that a writer was given."""
        unit = self.next_unit
        self.next_unit += units
        return unit

    def process(  # noqa: PLR0917
        self,
        pid: int,
        n_gils: int = 1,
        parent: int = 0,
        start: int = 0,
        end: int = 0,
        interval_us: int = 0,
    ) -> int:
        """A process page; returns its unit. `end`, `interval_us` 0: it did not say."""
        unit = self.take(1)
        ticks = START + start
        serial = self.serials.setdefault(unit, len(self.serials))
        parent = self.serials.get(parent, parent)
        page = struct.pack("<IIIIIIII", PROCESS_PAGE, 1, pid, serial, pid, parent, 1, n_gils)
        page += struct.pack("<QQQQQ", ticks, ticks, ticks, ticks, START + end if end else 0)
        page += struct.pack("<56sQ16sII", b"3.13.0", interval_us, b"interposed", 0, 9)
        page += b"python\0a\0"
        self._put(unit, page)
        return unit

    def thread(  # noqa: PLR0917
        self,
        process: int,
        tid: int,
        records: Sequence[bytes] = (),
        name: bytes = b"",
        is_main: bool = False,
        lost: int = 0,
        end: int = 0,
        number: int = 0,
        start: int = 0,
    ) -> int:
        """A thread page with its first records; returns its unit."""
        unit = self.take(1)
        page = struct.pack("<IIII", THREAD_PAGE, 1, process, 0)
        page += struct.pack(
            "<IHHQQQ", tid, is_main, number, START + start, START + end if end else 0, lost
        )
        self._put(unit, page + struct.pack("<200sQ96x", name, 0) + b"".join(records))
        return unit

    def chunk(self, thread: int, ordinal: int, records: Sequence[bytes]) -> int:
        """An event chunk; returns its unit."""
        unit = self.take(CHUNK_UNITS)
        header = struct.pack("<IIII", EVENT_CHUNK, CHUNK_UNITS, thread, ordinal)
        self._put(unit, header + b"".join(records))
        return unit

    def write(self, folder: Path, notes: Notes | None = None) -> Path:
        """Write the recording's directory."""
        (folder / RINGS).write_bytes(self.data)
        (notes or Notes(command=("python", "a"), gilscope="0")).write(folder)
        return folder

    def open(self, folder: Path, notes: Notes | None = None) -> RingSource:
        """Write and open it."""
        return open_rings(self.write(folder, notes))

    def _put(self, unit: int, content: bytes) -> None:
        self.data[unit * UNIT : unit * UNIT + len(content)] = content
