"""What is loaded in a process, and which of it is the interpreter."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gilscope.errors import ProcessGone, Unsupported
from gilscope.live.elf import Elf, Symbol
from gilscope.live.memory import Memory, explain

_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) (\S+) (\d+) *(.*)")
_DELETED = " (deleted)"
_LIKELY = re.compile(r"^(libpython\d.*|python\d?[\d.]*)$")


@dataclass(frozen=True)
class Mapping:
    """A line of /proc/PID/maps."""

    start: int
    end: int
    access: str  # "r-xp"
    offset: int  # in the file
    device: str
    inode: int
    path: str  # in the process's own mount namespace; "" for memory of no file
    deleted: bool  # the file is there no more, or was replaced


@dataclass(frozen=True)
class Module:
    """An ELF file that is loaded."""

    path: str
    elf: Elf


@dataclass(frozen=True)
class Python:
    """The module that is the interpreter."""

    module: Module
    runtime: Symbol  # _PyRuntime
    version: tuple[int, int]  # (3, 13)


def mappings(pid: int) -> list[Mapping]:
    """All of them, by address. Raises NotAttachable."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise explain(pid, error) from error
    found = []
    for line in lines.split("\n"):
        match = _LINE.match(line)
        if match is None:
            continue
        start, end, access, offset, device, inode, path = match.groups()
        deleted = path.endswith(_DELETED)
        path = path.removesuffix(_DELETED)
        found.append(
            Mapping(
                int(start, 16),
                int(end, 16),
                access,
                int(offset, 16),
                device,
                int(inode),
                path,
                deleted,
            )
        )
    if not found:  # a zombie, or a thread of the kernel
        raise ProcessGone(f"process {pid} has no memory: it has ended, or is the kernel's")
    return found


def modules(memory: Memory, where: list[Mapping] | None = None) -> Iterator[Module]:
    """The ELF files among the mappings, in the order of their addresses; what is none, or has no
    dynamic symbols, is left out. Raises NotAttachable.
    """
    for mapping in mappings(memory.pid) if where is None else where:
        if mapping.offset or not mapping.inode or not mapping.access.startswith("r"):
            continue
        if memory.read(mapping.start, 4) == b"\x7fELF":
            try:
                yield Module(mapping.path, Elf(memory, mapping.start))
            except Unsupported:
                continue


def file_of(pid: int, path: str) -> Path:
    """How a file that process `pid` knows as `path` is reached from here: its mount namespace may
    be another one.
    """
    return Path(f"/proc/{pid}/root{path}")


def find_python(memory: Memory) -> Python:
    """The interpreter of the process. Raises Unsupported where there is none that gilscope can
    read, and NotAttachable.
    """
    where = mappings(memory.pid)
    _refuse_32_bits(memory, where)
    loaded = list(modules(memory, where))
    loaded.sort(key=lambda module: not _LIKELY.match(os.path.basename(module.path)))
    for module in loaded:
        runtime = module.elf.symbol("_PyRuntime")
        if runtime is not None and runtime.size:
            version = _version(memory, module)
            _refuse_version(memory.pid, version)
            _refuse_free_threaded(memory, runtime)
            return Python(module, runtime, version)
    if any(module.elf.symbol("Py_GetVersion") for module in loaded):
        raise Unsupported(
            f"the Python of process {memory.pid} does not export _PyRuntime: it is older than 3.7, "
            "or was stripped of it"
        )
    raise Unsupported(f"process {memory.pid} runs no Python")


def full_version(memory: Memory, python: Python) -> str:
    """ "3.13.5", or "3.9" before 3.11, where no exported number has the rest."""
    number = python.module.elf.symbol("Py_Version")
    value = None if number is None else memory.pointer(number.address)
    if value is None:
        return ".".join(map(str, python.version))
    return f"{value >> 24 & 255}.{value >> 16 & 255}.{value >> 8 & 255}"


def _version(memory: Memory, module: Module) -> tuple[int, int]:
    """By what it exports: a number from 3.11 on, before that by calls that came with a version."""
    number = module.elf.symbol("Py_Version")
    value = None if number is None else memory.pointer(number.address)
    if value is not None:
        return value >> 24 & 255, value >> 16 & 255
    if module.elf.symbol("PyGC_Enable"):
        return 3, 10
    return (3, 9) if module.elf.symbol("PyObject_GC_IsTracked") else (3, 8)


def _refuse_version(pid: int, version: tuple[int, int]) -> None:
    if not (3, 9) <= version <= (3, 15):
        told = "3.8 or older" if version == (3, 8) else ".".join(map(str, version))
        raise Unsupported(f"process {pid} runs Python {told}; gilscope knows 3.9 to 3.15")


def _refuse_free_threaded(memory: Memory, runtime: Symbol) -> None:
    """What _PyRuntime opens with from 3.13 on: "xdebugpy", the version, whether it has no GIL."""
    head = memory.read(runtime.address, 24) or b""
    if head[:8] == b"xdebugpy" and head[16:] == (1).to_bytes(8, "little"):
        raise Unsupported(
            f"process {memory.pid} runs a free-threaded Python, which has no GIL to be looked at"
        )


def _refuse_32_bits(memory: Memory, where: list[Mapping]) -> None:
    first = next((m for m in where if m.inode and m.offset == 0 and m.access[0] == "r"), None)
    head = b"" if first is None else memory.read(first.start, 5) or b""
    if head[:4] == b"\x7fELF" and head[4] != 2:
        raise Unsupported(f"process {memory.pid} is one of 32 bits; gilscope knows 64")
