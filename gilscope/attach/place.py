"""Where gilscope's files are for a process that may be in a container, or another user's.

A process that can open gilscope's own files uses those. Where another one can they are copied: the
probe into a folder whose name tells its content, for what a killed gilscope or an earlier recording
left there is the same, and the rings into one of their own. Both go when the recording is over.

Such a folder is reached by descriptors, link by link, so that no name in the container leads out of
it; and it is still reached when the process has ended.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gilscope import _native
from gilscope.attach.ask import SCRIPT
from gilscope.errors import NotAttachable
from gilscope.live.memory import explain
from gilscope.live.modules import file_of
from gilscope.recorder.notes import RINGS
from gilscope.recorder.session import LEAST_BYTES, choose_directory

PROBE = "_probe.so"
_USUAL = (("dev", "shm"), ("tmp",), ("var", "tmp"))  # folders of a container
_LINK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Place:
    """Of one recording. `close` it when that is over."""

    directory: Path  # of the rings, as it is reached from here
    inside: Path  # the same, as the process knows it
    probe: Path  # these two as the process knows them
    script: Path = SCRIPT
    copied: str | None = None  # the name of the folder of copies
    _descriptors: list[int] = field(default_factory=list)  # of what it stands in; its probe's
    _parent: int = -1  # descriptor of what the rings' folder stands in; -1: none was made there

    @property
    def rings(self) -> Path:
        """As the process knows them."""
        return self.inside / RINGS

    def remove_rings(self) -> None:
        """The folder and all that is in it."""
        if self._parent < 0:
            shutil.rmtree(self.directory, ignore_errors=True)
            return
        with suppress(OSError):
            for name in os.listdir(self.directory):
                os.unlink(self.directory / name)
            os.rmdir(self.inside.name, dir_fd=self._parent)

    def close(self) -> None:
        """Remove the copies, unless another recording or a program that was started with the probe
        needs them: its children would complain.
        """
        if self.copied and not self._is_needed():
            into = self._descriptors[0]
            with suppress(OSError):
                made = os.open(self.copied, _LINK, dir_fd=into)
                try:
                    for name in (PROBE, SCRIPT.name):
                        os.unlink(name, dir_fd=made)
                finally:
                    os.close(made)
                os.rmdir(self.copied, dir_fd=into)
        _close(self._descriptors)

    def _is_needed(self) -> bool:
        assert self.copied
        lock = self._descriptors[-1]
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return any(bytes(self.probe) in words for words in _environments())


def place_of(pid: int) -> Place:
    """Where the files are for this process. Raises NotAttachable, RecordingError."""
    probe = _native.probe_path()
    directory = choose_directory()
    try:
        if _sees(pid, directory) and _sees(pid, probe) and _may_open(pid, probe):
            return Place(directory, directory, probe)
    except BaseException:
        directory.rmdir()
        raise
    directory.rmdir()
    return _in_container(pid)


def _sees(pid: int, path: Path) -> bool:
    try:
        return os.path.samefile(path, file_of(pid, str(path)))
    except PermissionError as error:
        raise explain(pid, error) from error
    except OSError:
        return False


def _may_open(pid: int, path: Path) -> bool:
    """Whether that process's user may: root's gilscope often stands where nobody else may look."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError as error:
        raise explain(pid, error) from error
    if owner in (0, os.geteuid()):
        return True
    folders = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
    return folders and bool(path.stat().st_mode & stat.S_IROTH)


def _in_container(pid: int) -> Place:
    descriptors: list[int] = []
    name = f"gilscope-{os.urandom(6).hex()}"
    try:
        copies, inner_copies = _folder(pid, _may_run)
        descriptors.append(copies)
        copied = _copy(copies)
        probe = f"{copied}/{PROBE}"
        descriptors.append(os.open(probe, _FILE, dir_fd=copies))
        fcntl.flock(descriptors[-1], fcntl.LOCK_SH)
        # These two stay open: the rings are read when the recording is over.
        parent, inner_rings = _folder(pid, _has_room)
        os.mkdir(name, 0o700, dir_fd=parent)
        rings = os.open(name, _LINK, dir_fd=parent)
    except OSError as error:
        _close(descriptors)
        if isinstance(error, PermissionError):
            raise explain(pid, error) from error
        raise NotAttachable(
            f"process {pid} cannot open gilscope's files (a container, or another user), and they"
            f" cannot be put where it can: {error.strerror}; run gilscope inside of it"
        ) from error
    inner = inner_copies / copied
    return Place(
        _reached(rings),
        inner_rings / name,
        inner / PROBE,
        inner / SCRIPT.name,
        copied,
        descriptors,
        parent,
    )


def _reached(descriptor: int) -> Path:
    """A folder that is open, for this process and those that it starts."""
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")


def _folder(pid: int, fits: Callable[[os.statvfs_result], bool]) -> tuple[int, Path]:
    """The first one that fits: a descriptor of it, and its path as the process knows it. Raises
    OSError.
    """
    for words in _USUAL:
        opened = [os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        try:
            for word in words:
                opened.append(os.open(word, _LINK, dir_fd=opened[-1]))
            if fits(os.statvfs(_reached(opened[-1]))):
                return opened.pop(), Path("/", *words)
        except (FileNotFoundError, NotADirectoryError):  # or a link, which may lead out of it
            continue
        finally:
            _close(opened)
    raise OSError(errno.ENOSPC, "none of its /dev/shm, /tmp and /var/tmp has room for them")


def _has_room(status: os.statvfs_result) -> bool:
    writable = not status.f_flag & os.ST_RDONLY
    return writable and status.f_bavail * status.f_frsize >= 2 * LEAST_BYTES


def _may_run(status: os.statvfs_result) -> bool:
    return _has_room(status) and not status.f_flag & os.ST_NOEXEC


def _copy(into: int) -> str:
    """The name of a folder with what the process opens, made or found there. Raises OSError."""
    files = {PROBE: _native.probe_path().read_bytes(), SCRIPT.name: SCRIPT.read_bytes()}
    name = f"gilscope-probe-{hashlib.sha256(b''.join(files.values())).hexdigest()[:12]}"
    for folder in (name, f"{name}-{os.urandom(6).hex()}"):
        try:
            os.mkdir(folder, 0o700, dir_fd=into)
        except FileExistsError:
            if _is_ours(into, folder, files):
                return folder
            continue
        made = os.open(folder, _LINK, dir_fd=into)
        try:
            for file, content in files.items():
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                with open(os.open(file, flags, 0o755, dir_fd=made), "wb") as copy:
                    copy.write(content)
                    os.fchmod(copy.fileno(), 0o755)
            _reached(made).chmod(0o755)
        finally:
            os.close(made)
        return folder
    raise OSError(errno.EEXIST, "a folder of that name is another's")


def _is_ours(into: int, folder: str, files: Mapping[str, bytes]) -> bool:
    """Written by nobody else, and whole."""
    try:
        opened = [os.open(folder, _LINK, dir_fd=into)]
    except OSError:
        return False
    try:
        for file in files:
            opened.append(os.open(file, _FILE, dir_fd=opened[0]))
        whole = all(
            os.pread(copy, len(content) + 1, 0) == content
            for copy, content in zip(opened[1:], files.values(), strict=True)
        )
        return whole and all(map(_is_root_s, map(os.fstat, opened)))
    except OSError:
        return False
    finally:
        _close(opened)


def _is_root_s(status: os.stat_result) -> bool:
    """Or this user's, and nobody else may write it."""
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid in (0, os.geteuid()) and not others


def _environments() -> Iterator[bytes]:
    """Of all processes that may be looked at."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            yield Path(f"/proc/{pid}/environ").read_bytes()


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()
