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


@dataclass
class Place:
    """Of one recording. `close` it when that is over."""

    directory: Path  # of the rings, as it is reached from here
    inside: Path  # the same, as the process knows it
    probe: Path  # these two as the process knows them
    script: Path = SCRIPT
    copied: Path | None = None  # the folder of copies, as it is reached from here
    _descriptors: list[int] = field(default_factory=list)  # of that folder, and a lock on its probe

    @property
    def rings(self) -> Path:
        """As the process knows them."""
        return self.inside / RINGS

    def close(self) -> None:
        """Remove the copies, unless another recording or a program that was started with the probe
        needs them: its children would complain.
        """
        if self.copied and not self._is_needed():
            shutil.rmtree(self.copied, ignore_errors=True)
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
        copies, inner_copies = _folder(pid, descriptors, _may_run)
        copied = _copy(copies)
        descriptors.append(os.open(copied / PROBE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
        fcntl.flock(descriptors[-1], fcntl.LOCK_SH)
        # Its descriptor stays: the rings are read when the recording is over.
        rings, inner_rings = _folder(pid, [], _has_room)
        (rings / name).mkdir(mode=0o700)
    except OSError as error:
        _close(descriptors)
        if isinstance(error, PermissionError):
            raise explain(pid, error) from error
        raise NotAttachable(
            f"process {pid} cannot open gilscope's files (a container, or another user), and they"
            f" cannot be put where it can: {error.strerror}; run gilscope inside of it"
        ) from error
    inner = inner_copies / copied.name
    return Place(
        rings / name, inner_rings / name, inner / PROBE, inner / SCRIPT.name, copied, descriptors
    )


def _folder(
    pid: int, descriptors: list[int], fits: Callable[[os.statvfs_result], bool]
) -> tuple[Path, Path]:
    """The first one that fits: as it is reached from here, and as the process knows it. Raises
    OSError.
    """
    for words in _USUAL:
        opened = [os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        try:
            for word in words:
                opened.append(os.open(word, _LINK, dir_fd=opened[-1]))
            here = Path(f"/proc/{os.getpid()}/fd/{opened[-1]}")
            if fits(os.statvfs(here)):
                descriptors.append(opened.pop())
                return here, Path("/", *words)
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


def _copy(into: Path) -> Path:
    """A folder with what the process opens, made or found there. Raises OSError."""
    files = {PROBE: _native.probe_path().read_bytes(), SCRIPT.name: SCRIPT.read_bytes()}
    name = f"gilscope-probe-{hashlib.sha256(b''.join(files.values())).hexdigest()[:12]}"
    for folder in (into / name, into / f"{name}-{os.urandom(6).hex()}"):
        try:
            folder.mkdir()
        except FileExistsError:
            if _is_ours(folder, files):
                return folder
            continue
        for file, content in files.items():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(folder / file, flags, 0o755), "wb") as copy:
                copy.write(content)
                os.fchmod(copy.fileno(), 0o755)
        folder.chmod(0o755)
        return folder
    raise OSError(errno.EEXIST, "a folder of that name is another's")


def _is_ours(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Written by nobody else, and whole."""
    for path in (folder, *(folder / file for file in files)):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            return False
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
    return all((folder / file).read_bytes() == content for file, content in files.items())


def _environments() -> Iterator[bytes]:
    """Of all processes that may be looked at."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            yield Path(f"/proc/{pid}/environ").read_bytes()


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()
