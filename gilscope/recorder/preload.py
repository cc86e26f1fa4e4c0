"""What is preloaded into a program, in which order, and by a name that the loader can read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from gilscope import _native
from gilscope.errors import InstallationError

PRELOAD = "LD_PRELOAD"

# These end the program where they are not the first to be loaded.
_SANITIZER = re.compile(r"lib(clang_rt\.)?(a|hwa|l|m|t|ub)san[^/]*")


def preload(variables: dict[str, str]) -> None:
    """Put the probe before all else that is preloaded but sanitizers. Raises InstallationError."""
    probe = _name_of(_native.probe_path())
    before = variables.get(PRELOAD, "")
    first = 0
    for word in re.finditer("[^ :]+", before):
        if _SANITIZER.fullmatch(os.path.basename(word[0])):
            first = word.end()
    names = (before[:first], probe, before[first:].lstrip(" :") if first else before)
    variables[PRELOAD] = ":".join(filter(None, names))


def _name_of(library: Path) -> str:
    """Its path, or that of a link to it where the path has what the loader takes for an end.

    The link stays: what the program started may outlive the recording, and must not look for it
    in a folder that anybody else could make then.
    """
    if _is_readable(library):
        return str(library)
    import hashlib  # noqa: PLC0415 - hardly ever needed

    name = f"probe-{hashlib.sha256(os.fsencode(library)).hexdigest()[:16]}.so"
    for home in filter(_is_readable, _homes()):
        link = home / "gilscope" / "preload" / name
        try:
            link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_own(link.parent):
                continue
            if not (link.is_symlink() and os.readlink(link) == str(library)):
                new = link.with_name(f"{name}.{os.getpid()}")
                new.symlink_to(library)
                new.replace(link)
        except OSError:
            continue
        return str(link)
    raise InstallationError(
        f"the path {library} has a space or colon, and cannot be preloaded; "
        "set XDG_CACHE_HOME to a folder of yours that has neither"
    )


def _is_readable(path: Path) -> bool:
    return not re.search("[ :]", str(path))


def _homes() -> Iterator[Path]:
    for path in (os.environ.get("XDG_CACHE_HOME"), "~/.cache", os.environ.get("XDG_RUNTIME_DIR")):
        home = Path(path or "").expanduser()
        if home.is_absolute():
            yield home


def _is_own(folder: Path) -> bool:
    """Whether nobody else can put anything into it."""
    status = folder.lstat()
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
