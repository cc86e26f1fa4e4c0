"""The tracks that Perfetto shows: processes, threads and, of each GIL, owner, waiters and flame."""

from __future__ import annotations

import os
from typing import Any

from gilscope.perfetto import layout
from gilscope.trace.schema import Metadata, Process

REUSE = 1 << 22  # Linux never gives a pid or tid from here on
_LARGEST = (1 << 31) - 1


class Tracks:
    """Describes each process, thread and GIL once, where a packet first needs it.

    Rows of the metadata's tables are looked at when they are needed; the tables may grow meanwhile.
    """

    def __init__(self) -> None:
        self._numbers = Numbers()
        self._processes: set[int] = set()
        self._threads: dict[int, str] = {}  # id: the name that is shown
        self._gils: dict[int, int] = {}  # id: its number in its process
        self._gils_of: dict[int, int] = {}
        self._described: set[int] = set()  # GILs, and flames by their uuid

    def of_sequence(self, metadata: Metadata, role: int, thread: int, gil: int) -> list[Any]:
        """Packets that stand before the packet that introduces such a sequence."""
        self._numbers.grow(metadata)
        packets = self._thread(metadata, thread)
        if role in (layout.ROLE_GIL, layout.ROLE_FLAME):
            packets += self._gil(metadata, gil)
        if role == layout.ROLE_ATOMIC:
            track = layout.track_packet(metadata, layout.ATOMIC | thread)
            track.track_descriptor.parent_uuid = layout.THREAD | thread
            track.track_descriptor.name = layout.ATOMIC_TRACK
            packets.append(track)
        if role == layout.ROLE_FLAME:
            # Beneath the owner's, where the UI folds it: one deep stack makes the track high.
            flame = layout.track_packet(metadata, layout.FLAME | gil)
            flame.track_descriptor.parent_uuid = layout.FIRST_OWNER + gil
            flame.track_descriptor.name = f"{self._gil_name(metadata, gil)} flame"
            packets.append(flame)
        return packets

    def tid(self, thread: int) -> int:
        """The number that a thread's track shows."""
        return self._numbers.tids[thread]

    def rest(self, metadata: Metadata) -> list[Any]:
        """Packets for what had no event; threads that have got another name are told anew."""
        self._numbers.grow(metadata)
        packets = []
        for process in metadata.processes:
            packets += self._process(metadata, process.id)
        for thread in metadata.threads:
            packets += self._thread(metadata, thread.id)
        for gil in metadata.gils:
            packets += self._gil(metadata, gil.id)
        return packets

    def _process(self, metadata: Metadata, number: int) -> list[Any]:
        if number in self._processes:
            return []
        self._processes.add(number)
        process, pid = metadata.processes[number], self._numbers.pids[number]
        packet = layout.track_packet(metadata, layout.PROCESS | number)
        shown = packet.track_descriptor.process
        shown.pid = pid
        shown.process_name = _process_name(process)
        if pid != process.pid:
            shown.process_name += f" (pid {process.pid})"
        shown.cmdline.extend(layout.printable(word) for word in process.command)
        return [packet]

    def _thread(self, metadata: Metadata, number: int) -> list[Any]:
        thread = metadata.threads[number]
        name = layout.thread_name(thread)
        if self._threads.get(number) == name:
            return []
        self._threads[number] = name
        packets = self._process(metadata, thread.process)
        packet = layout.track_packet(metadata, layout.THREAD | number)
        track = packet.track_descriptor
        track.parent_uuid = layout.PROCESS | thread.process
        track.thread.pid = self._numbers.pids[thread.process]
        track.thread.tid = self._numbers.tids[number]
        track.thread.thread_name = name
        return [*packets, packet]

    def _gil_name(self, metadata: Metadata, number: int) -> str:
        for gil in metadata.gils[len(self._gils) :]:
            self._gils[gil.id] = self._gils_of[gil.process] = self._gils_of.get(gil.process, 0) + 1
        which = self._gils[number]
        return "GIL" if which == 1 else f"GIL {which}"

    def _gil(self, metadata: Metadata, number: int) -> list[Any]:
        if number in self._described:
            return []
        self._described.add(number)
        which = self._gil_name(metadata, number)
        process = metadata.gils[number].process
        packets = self._process(metadata, process)
        owner = layout.track_packet(metadata, layout.FIRST_OWNER + number)
        waiters = layout.track_packet(metadata, layout.WAITERS | number)
        waiters.track_descriptor.counter.unit_name = "threads"
        for packet, name in ((owner, f"{which} owner"), (waiters, f"{which} waiters")):
            packet.track_descriptor.parent_uuid = layout.PROCESS | process
            packet.track_descriptor.name = name
            packets.append(packet)
        return packets


class Numbers:
    """The pid of each process and the tid of each thread as the tracks show them.

    The engine merges threads of equal (pid, tid), so a number that returns is shown as number
    + n * 2**22; the metadata keeps the true one. A main thread keeps tid = pid, by which the engine
    knows it.
    """

    def __init__(self) -> None:
        self._used: set[int] = set()
        self._main_seen: set[int] = set()
        self.pids: list[int] = []  # by Process.id
        self.tids: list[int] = []  # by Thread.id

    def grow(self, metadata: Metadata) -> None:
        """Number the rows that the tables have got: processes before threads."""
        for process in metadata.processes[len(self.pids) :]:
            self.pids.append(self._distinct(process.pid))
        for thread in metadata.threads[len(self.tids) :]:
            process = metadata.processes[thread.process]
            if thread.tid == process.pid and process.id not in self._main_seen:
                self._main_seen.add(process.id)
                self.tids.append(self.pids[process.id])
            else:
                self.tids.append(self._distinct(thread.tid))

    def _distinct(self, number: int) -> int:
        while number in self._used and number + REUSE <= _LARGEST:
            number += REUSE
        while number in self._used:  # 512 times the same number: any free one will do
            number -= 1
        self._used.add(number)
        return number


def _process_name(process: Process) -> str:
    if not process.command:
        return f"process {process.pid}"
    words = [os.path.basename(process.command[0]), *process.command[1:]]
    name = layout.printable(" ".join(words)).strip()
    return (name if len(name) <= 60 else name[:59] + "…") or f"process {process.pid}"
