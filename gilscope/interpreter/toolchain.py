"""What a build needs of the machine, and which of it a failed step missed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gilscope.errors import BuildError

COMPILERS = ("gcc", "cc", "clang")
SWITCHES = ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "PKG_CONFIG_PATH")  # of the user's, if set
REMOVED = ("PYTHON", "GILSCOPE_", "MAKE", "MFLAGS", "LD_PRELOAD", "DESTDIR", "CONFIG_SITE")


@dataclass(frozen=True)
class Library:
    """What a module of the standard library is built on."""

    module: str
    package: str  # Debian's name of its headers
    required: bool = False


# By the names in CPython's Makefile: MODULE_<NAME>_STATE.
LIBRARIES = {
    "_SSL": Library("ssl", "libssl-dev", required=True),
    "_HASHLIB": Library("_hashlib", "libssl-dev"),
    "ZLIB": Library("zlib", "zlib1g-dev", required=True),
    "_CTYPES": Library("ctypes", "libffi-dev", required=True),
    "_BZ2": Library("bz2", "libbz2-dev"),
    "_LZMA": Library("lzma", "liblzma-dev"),
    "_SQLITE3": Library("sqlite3", "libsqlite3-dev"),
    "READLINE": Library("readline", "libreadline-dev"),
    "_CURSES": Library("curses", "libncurses-dev"),
    "_CURSES_PANEL": Library("curses.panel", "libncurses-dev"),
    "_DBM": Library("dbm.ndbm", "libgdbm-compat-dev"),
    "_GDBM": Library("dbm.gnu", "libgdbm-dev"),
    "_TKINTER": Library("tkinter", "tk-dev"),
    "_UUID": Library("_uuid", "uuid-dev"),
}

# What the tools print, and what to do about it; the first that matches counts.
_SAYINGS = (
    (r"No space left on device|Disk quota exceeded", "the disk is full"),
    (
        r"no acceptable C compiler",
        "there is no C compiler; on Debian: apt-get install gcc libc6-dev",
    ),
    (
        r"C compiler cannot create executables",
        "the C compiler makes no programs; on Debian: apt-get install gcc libc6-dev",
    ),
    (
        r"fatal error: (\S+\.h): No such file",
        "the header {0} is missing; install the library's -dev package",
    ),
    (r"cannot find -l(\S+?)[: ]", "the library lib{0} is missing; install its -dev package"),
    (
        r"Killed signal terminated program|Out of memory|virtual memory exhausted",
        "the compiler ran out of memory",
    ),
    (r"(?:^|[ /])([^\s/:]+): (?:command )?not found", "the tool {0} is missing"),
    (r"(\S+): Permission denied", "{0} must not be written or run"),
)
_WRONG = re.compile(r"\berror\b|Error \d", re.IGNORECASE)


def check_tools() -> None:
    """Raises BuildError that names what is missing of compiler, make and ar."""
    if compiler := os.environ.get("CC"):
        if shutil.which(shlex.split(compiler)[0]) is None:
            raise BuildError(f"there is no C compiler {compiler!r}, which CC names")
    elif not any(map(shutil.which, COMPILERS)):
        raise BuildError("there is no C compiler; on Debian: apt-get install gcc libc6-dev")
    for tool, package in (("make", "make"), ("ar", "binutils")):
        if shutil.which(tool) is None:
            raise BuildError(f"there is no {tool}; on Debian: apt-get install {package}")


def environment() -> dict[str, str]:
    """The user's, without what would lead a build astray: other Pythons' settings, flags of a
    `make` around us, preloads.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(REMOVED)}
    return {**kept, "LC_ALL": "C.UTF-8"}


def switches() -> list[str]:
    """The user's own switches for the compiler, as configure's `NAME=value`."""
    return [f"{name}={os.environ[name]}" for name in SWITCHES if os.environ.get(name)]


def missing_libraries(makefile: Path) -> list[Library]:
    """Modules that configure found no library for. Raises BuildError for one that must be there."""
    states = re.findall(r"^MODULE_(\w+)_STATE=missing", makefile.read_text(), re.MULTILINE)
    missing = [LIBRARIES.get(name, Library(name.lower(), "")) for name in states]
    if needed := [library for library in missing if library.required]:
        raise BuildError(
            f"libraries for {', '.join(library.module for library in needed)} are missing;"
            f" on Debian: apt-get install {' '.join(library.package for library in needed)}"
        )
    return missing


def describe(missing: list[Library]) -> str:
    """One line for modules that are left out."""
    modules = ", ".join(library.module for library in missing)
    packages = " ".join(dict.fromkeys(library.package for library in missing if library.package))
    remedy = f" (on Debian: apt-get install {packages}, then build again)" if packages else ""
    return f"without {modules}: no library for it{remedy}"


def diagnose(output: list[str]) -> str:
    """Why a step failed, from what it printed: what is missing, else its most telling line."""
    for pattern, meaning in _SAYINGS:
        for line in output:
            if found := re.search(pattern, line):
                return meaning.format(*found.groups())
    return next(_telling(output), "it printed nothing")


def _telling(output: list[str]) -> Iterator[str]:
    yield from (line.strip() for line in output if _WRONG.search(line) and "***" not in line)
    yield from (line.strip() for line in reversed(output) if line.strip())
