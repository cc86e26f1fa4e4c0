"""Counters of groups of like threads that never fall, whatever ends or is taken back meanwhile.

A thread's page is used again some time after its end. Who reads before that keeps what it counted
under its name; what nobody read in time is still in the sums of its process, and is given under the
name ENDED. So there are as many groups as names that differ in more than numbers, up to a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gilscope.live.counters import Reading, Sums
from gilscope.naming import group_of, program_name
from gilscope.safe_text import escaped

ENDED = "(ended)"
OTHERS = "(others)"
MOST_PROGRAMS, MOST_GROUPS = 20, 200
_MOST_CHARACTERS = 80

Name = tuple[str, str]  # of a program, of its threads


@dataclass
class Group:
    """Threads of one program whose names differ in numbers alone. Text is harmless."""

    process: str
    thread: str
    sums: Sums = field(default_factory=Sums)
    longest_wait_ns: int = 0  # since the reading before; 0: no wait ended
    threads: int = 0  # that live
    holding: int = 0
    waiting: int = 0


@dataclass
class _Known:
    """A thread at its last reading."""

    name: Name
    process: int
    sums: Sums


@dataclass
class _Process:
    """A process at its last reading."""

    program: str
    gone: Sums
    named: Sums = field(default_factory=Sums)  # of `gone`, what is in groups
    rest: Sums = field(default_factory=Sums)  # and what is not


class Totals:
    """Folds readings into groups. One owner."""

    def __init__(self, pid: int | None = None) -> None:
        """Of all processes of the recording, or of the newest one of this pid alone."""
        self._pid = pid
        self._threads: dict[tuple[int, int], _Known] = {}
        self._processes: dict[int, _Process] = {}
        self._ended: dict[Name, Sums] = {}  # of threads that have no page any more
        self._gone_named = Sums()  # of the sums of processes that are gone, what is in groups
        self._gone_rest = Sums()
        self._names: set[Name] = set()
        self._programs: set[str] = set()

    def update(self, reading: Reading) -> list[Group]:
        """All groups that there ever were, by name."""
        reading = self._mine(reading)
        for process in reading.processes:
            known = self._processes.setdefault(
                process.serial, _Process(self._program(process.command), Sums())
            )
            known.gone = process.gone.at_least(known.gone)
        self._forget(reading)
        groups = {name: Group(*name, sums) for name, sums in self._ended.items()}
        for thread in reading.threads:
            program = self._processes[thread.process].program
            before = self._threads.get(thread.key)
            name = before.name if before else self._name(program, thread.name)
            sums = thread.sums.at_least(before.sums) if before else thread.sums
            self._threads[thread.key] = _Known(name, thread.process, sums)
            group = groups.setdefault(name, Group(*name))
            group.sums += sums
            group.longest_wait_ns = max(group.longest_wait_ns, thread.longest_wait_ns)
            group.threads += not thread.over
            group.holding += thread.holds
            group.waiting += thread.waits is not None
        for its in self._processes.values():
            its.rest = (its.gone - its.named).at_least(its.rest)
            self._add_rest(groups, (its.program, ENDED), its.rest)
        if self._pid is None:
            self._gone_rest = (reading.gone - self._gone_named).at_least(self._gone_rest)
            self._add_rest(groups, (OTHERS, ENDED), self._gone_rest)
        return sorted(groups.values(), key=lambda group: (group.process, group.thread))

    def _mine(self, reading: Reading) -> Reading:
        if self._pid is None:
            return reading
        mine = [each for each in reading.processes if each.pid == self._pid and not each.dead]
        newest = max(mine, key=lambda each: each.serial, default=None)
        return replace(
            reading,
            processes=(newest,) if newest else (),
            threads=tuple(t for t in reading.threads if newest and t.process == newest.serial),
        )

    def _forget(self, reading: Reading) -> None:
        """What has no page any more goes to where its sums went."""
        here = {thread.key for thread in reading.threads}
        for key in [key for key in self._threads if key not in here]:
            thread = self._threads.pop(key)
            self._ended[thread.name] = self._ended.get(thread.name, Sums()) + thread.sums
            self._processes[thread.process].named += thread.sums
        serials = {process.serial for process in reading.processes}
        for serial in [serial for serial in self._processes if serial not in serials]:
            process = self._processes.pop(serial)
            name = (process.program, ENDED)
            if process.rest != Sums():
                self._ended[name] = self._ended.get(name, Sums()) + process.rest
            self._gone_named += process.named + process.rest

    @staticmethod
    def _add_rest(groups: dict[Name, Group], name: Name, rest: Sums) -> None:
        if rest != Sums():
            groups.setdefault(name, Group(*name)).sums += rest

    def _program(self, command: Sequence[str]) -> str:
        program = _label(program_name(command) if command else "program")
        if program not in self._programs and len(self._programs) >= MOST_PROGRAMS:
            return OTHERS
        self._programs.add(program)
        return program

    def _name(self, program: str, thread: str) -> Name:
        name = (program, _label(group_of(thread)))
        if name not in self._names and len(self._names) >= MOST_GROUPS:
            return program, OTHERS
        self._names.add(name)
        return name


def _label(text: str) -> str:
    return escaped(text, _MOST_CHARACTERS)
