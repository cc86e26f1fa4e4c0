"""Another process's memory, read by calls of the kernel that cannot harm it.

A read gives None where nothing can be read: memory that was freed meanwhile is no error. Errors are
raised once, when the process is opened, and say what to do.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

from gilscope.errors import NotAllowed, NotAttachable, ProcessGone

_SMALL = struct.Struct("<Q")
_WORD = struct.Struct("<I")
MOST_BYTES = 1 << 26  # of one read: what asks for more was led astray
_END_OF_USERS = 1 << 56  # x86-64 with five levels of page tables

_libc = ctypes.CDLL(None, use_errno=True)


class _Stretch(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_size_t))


class Memory:
    """The memory of process `pid`; close it, or use it as a context manager.

    Raises NotAllowed, ProcessGone or NotAttachable when it is made.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._file: int | None = None
        self._by_call = _has_call()
        try:
            self._file = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise explain(pid, error) from error
        try:
            os.pread(self._file, 1, 0)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.ESRCH):
                self.close()
                raise explain(pid, error) from error

    def close(self) -> None:
        """Lets go of the process; reads give None from now on."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read(self, address: int, size: int) -> bytes | None:
        """`size` bytes from `address` on; None where one of them cannot be read."""
        if self._file is None or not _sensible(address, size):
            return None
        if size == 0:
            return b""
        if self._by_call:
            into = ctypes.create_string_buffer(size)
            mine = _Stretch(ctypes.addressof(into), size)
            theirs = _Stretch(address, size)
            got = _libc.process_vm_readv(
                self.pid, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0
            )
            if got == size:
                return into.raw
            if ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM):
                return None
            self._by_call = False  # a filter forbids the call; the file may be allowed
        try:
            data = os.pread(self._file, size, address)
        except (OSError, OverflowError):
            return None
        return data if len(data) == size else None

    def readable(self, address: int, size: int) -> bytes:
        """As much of it as can be read, from `address` on without a hole; in steps of a page."""
        whole = self.read(address, size)
        if whole is not None:
            return whole
        pieces = []
        end = address + size
        while address < end:
            piece = self.read(address, min(end, (address | 4095) + 1) - address)
            if piece is None:
                break
            pieces.append(piece)
            address += len(piece)
        return b"".join(pieces)

    def pointer(self, address: int) -> int | None:
        """The 8 bytes at `address`, unsigned."""
        data = self.read(address, 8)
        return None if data is None else int(_SMALL.unpack(data)[0])

    def word(self, address: int) -> int | None:
        """The 4 bytes at `address`, unsigned."""
        data = self.read(address, 4)
        return None if data is None else int(_WORD.unpack(data)[0])

    def text(self, address: int, most: int = 256) -> str | None:
        """The C string at `address`, in at most so many bytes."""
        data = self.readable(address, most)
        end = data.find(b"\0")
        return data[:end].decode("utf-8", "replace") if end >= 0 else None


def explain(pid: int, error: OSError) -> NotAttachable:
    """The one line that says why process `pid` cannot be read, and what to do."""
    owner = _owner(pid)
    if owner is None or error.errno in (errno.ENOENT, errno.ESRCH):
        return ProcessGone(f"there is no process {pid}")
    if error.errno not in (errno.EPERM, errno.EACCES):
        return NotAttachable(f"process {pid} cannot be read: {error.strerror}")
    root, scope = os.geteuid() == 0, _ptrace_scope()
    if not root and os.geteuid() != owner:
        why = f" belongs to another user (uid {owner}): run gilscope as that user, or as root"
    elif scope == 3:
        why = (
            " cannot be read: this kernel lets nobody read other processes until it is started "
            "anew (Yama's ptrace_scope is 3)"
        )
    elif root:
        why = (
            " cannot be read, even by this root: run gilscope outside the container, or give the "
            "container the capability SYS_PTRACE"
        )
    elif scope:
        why = (
            f" cannot be read (Yama's ptrace_scope is {scope}): run gilscope as root, or: "
            "sudo sysctl kernel.yama.ptrace_scope=0"
        )
    else:
        why = (
            " cannot be read: it has changed its user, or forbids it (prctl PR_SET_DUMPABLE); run "
            "gilscope as root"
        )
    return NotAllowed(f"process {pid}{why}")


def _sensible(address: int, size: int) -> bool:
    return address >= 4096 and 0 <= size <= MOST_BYTES and address + size <= _END_OF_USERS


def _has_call() -> bool:
    call = getattr(_libc, "process_vm_readv", None)
    if call is None:
        return False
    unsigned = ctypes.c_ulong
    call.argtypes = [ctypes.c_int, *2 * [ctypes.c_void_p, unsigned], unsigned]
    call.restype = ctypes.c_ssize_t
    return True


def _owner(pid: int) -> int | None:
    """The user that it runs as. The owner of its folder is root's for one that cannot be dumped."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Uid:"):
                return int(line.split()[2])
    except OSError:
        pass
    return None


def _ptrace_scope() -> int:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
    except (OSError, ValueError):
        return 0
