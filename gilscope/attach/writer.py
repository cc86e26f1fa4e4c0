"""Writes into the memory of a process that runs, whatever its pages allow the process itself."""

from __future__ import annotations

import errno
import os
import struct

from gilscope.errors import NotAllowed, NotAttachable, ProcessGone
from gilscope.live.memory import explain


class Writer:
    """Of process `pid`; close it. Raises NotAttachable when it is made."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._file: int | None = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise explain(pid, error) from error

    def close(self) -> None:
        """Let go of the process."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def write(self, address: int, data: bytes) -> None:
        """Raises NotAllowed where the kernel forbids it, ProcessGone."""
        assert self._file is not None
        try:
            written = os.pwrite(self._file, data, address)
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.ENOENT):
                raise ProcessGone(f"process {self.pid} has ended") from error
            if error.errno in (errno.EPERM, errno.EACCES, errno.EIO, errno.EFAULT):
                raise NotAllowed(
                    f"the kernel lets nobody write into process {self.pid}"
                    " (proc_mem.force_override on its command line, or a security module);"
                    " start the program by gilscope record"
                ) from error
            raise NotAttachable(f"process {self.pid}: {error.strerror}") from error
        if written == 0:
            raise ProcessGone(f"process {self.pid} has ended")
        if written != len(data):
            raise NotAttachable(f"process {self.pid}: {address:#x} could not be written whole")

    def pointer(self, address: int, value: int) -> None:
        """8 bytes at a multiple of 8."""
        self.write(address, struct.pack("<Q", value))

    def word(self, address: int, value: int) -> None:
        """4 bytes at a multiple of 4."""
        self.write(address, struct.pack("<I", value))
