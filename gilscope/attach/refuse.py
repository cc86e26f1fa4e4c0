"""Who cannot be attached to, found out before anything is changed."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gilscope.attach.process import IN, PRELOADED, Late
from gilscope.errors import NotAttachable, ProcessGone
from gilscope.live.memory import Memory
from gilscope.live.modules import file_of, mappings

_RINGS = re.compile(r".*/gilscope-[0-9a-f]{12}/rings")
_RECORDER_AT = 16  # in struct gs_file_header


@contextmanager
def alone(pid: int) -> Iterator[None]:
    """No other gilscope attaches to this process meanwhile. Raises NotAttachable.

    A name of the kernel's own, so that nothing is left where gilscope is killed.
    """
    space = os.stat("/proc/self/ns/pid").st_ino
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        try:
            lock.bind(f"\0gilscope-attach-{space}-{pid}")
        except OSError:
            raise NotAttachable(
                f"another gilscope attaches to process {pid}, or to what it belongs to, already"
            ) from None
        yield
    finally:
        lock.close()


def refuse_unknown(pid: int) -> None:
    """Raises ProcessGone, NotAttachable for gilscope itself."""
    if pid == os.getpid():
        raise NotAttachable("this is gilscope itself")
    if pid <= 0 or not os.path.exists(f"/proc/{pid}"):
        raise ProcessGone(f"there is no process {pid}")


def recorder_of(memory: Memory) -> int | None:
    """The pid of the gilscope that records it and lives; of the rings it has mapped."""
    for mapping in mappings(memory.pid):
        if mapping.deleted or not _RINGS.fullmatch(mapping.path):
            continue
        path = file_of(memory.pid, mapping.path)
        if path.exists() and _is_locked(path):
            head = memory.read(mapping.start, _RECORDER_AT + 4)
            return struct.unpack_from("<I", head or bytes(20), _RECORDER_AT)[0] or 0
    return None


def left_behind(memory: Memory) -> Late | None:
    """The probe that a killed gilscope left at work in the process, if one did.

    Raises NotAttachable where the process is recorded, or came with a probe.
    """
    recorder = recorder_of(memory)
    if recorder is not None:
        raise NotAttachable(
            f"process {memory.pid} is recorded already, by gilscope (pid {recorder})"
        )
    late = Late.find(memory)
    if late is not None and late.state == PRELOADED:
        raise NotAttachable(
            f"process {memory.pid} was started by gilscope, whose probe stays in it; start it anew"
            " by gilscope record to record it"
        )
    return late if late is not None and late.state == IN else None


def _is_locked(rings: Path) -> bool:
    try:
        descriptor = os.open(rings, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
