"""Finds the interpreters that end-to-end tests record.

The minimum is declared: a missing one fails its tests with a line that says how to get it, since
a suite that passes without 3.9 says nothing about 3.9. Looked for in this order: the paths in
GILSCOPE_TEST_PYTHONS (separated by `:`), `python3.X` on PATH, `~/.pyenv/versions/3.X.*`. Python
Plus is where `gilscope interpreter build` puts it; GILSCOPE_TEST_VARIANT names a variant of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from gilscope.interpreter.places import Manifest, Place
from gilscope.interpreter.release import RELEASES, VARIANTS

DEBIAN = "debian"  # the distribution's own build: static libpython, other compiler flags
PLUS = "plus"  # Python Plus: the probe is inside
MINIMUM = ("3.9", "3.11", "3.13", DEBIAN, PLUS)
_ALL = ("3.9", "3.10", "3.11", "3.12", "3.13", DEBIAN, "3.14", "3.15", PLUS)

# What defines `new()` there, an interpreter with a GIL of its own, by the module `make`.
OWN_GIL = {
    "3.12": "import _xxsubinterpreters as make\nnew = lambda: make.create(isolated=True)\n",
    "3.13": "import _interpreters as make\nnew = lambda: make.create('isolated')\n",
}
OWN_GIL[PLUS] = OWN_GIL["3.13"]

_PROBE = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"


def names() -> list[str]:
    """What to parametrise over: the minimum, here or not, and the others that are here."""
    return [name for name in _ALL if name in MINIMUM or name in _found()]


def path(name: str) -> Path:
    """The interpreter's path. Raises LookupError that tells how to get a missing one."""
    if name in _found():
        return _found()[name]
    if name == DEBIAN:
        raise LookupError("the tests need Debian's /usr/bin/python3: apt-get install python3")
    if name == PLUS:
        raise LookupError("the tests need Python Plus: make plus")
    raise LookupError(
        f"the tests need a CPython {name}: put python{name} on PATH, run `pyenv install {name}`,"
        f" or name its path in GILSCOPE_TEST_PYTHONS"
    )


def version(name: str) -> tuple[int, ...]:
    """Its major and minor version. Raises LookupError like `path`."""
    return tuple(int(part) for part in _identity(path(name)).split(" ")[0].split("."))


def in_build_tree(variant: str) -> Path:
    """A Python Plus where it was built: the only place with CPython's own test programs.

    Raises LookupError that tells how to get it.
    """
    place = Place.of(RELEASES["3.13"], VARIANTS[variant])
    if Manifest.read(place.prefix) is None or not (place.work / "build" / "python").exists():
        option = f" --variant {variant}" if variant else ""
        raise LookupError(f"these tests need: gilscope interpreter build{option}")
    return place.work / "build" / "python"


@cache
def _found() -> dict[str, Path]:
    found = {}
    for name in _ALL:
        for candidate in _candidates(name):
            version, _, executable = _identity(candidate).partition(" ")
            if version and name in (version, DEBIAN, PLUS):
                found[name] = Path(executable)
                break
    return found


def _candidates(name: str) -> Iterator[Path]:
    if name == DEBIAN:
        yield Path("/usr/bin/python3")
        return
    if name == PLUS:
        variant = os.environ.get("GILSCOPE_TEST_VARIANT", "")
        yield Place.of(RELEASES["3.13"], VARIANTS[variant]).python
        return
    named = os.environ.get("GILSCOPE_TEST_PYTHONS", "")
    yield from (Path(entry) for entry in named.split(os.pathsep) if entry)
    on_path = shutil.which(f"python{name}")
    if on_path is not None:
        yield Path(on_path)
    yield from sorted((Path.home() / ".pyenv" / "versions").glob(f"{name}.*/bin/python"))


@cache
def _identity(candidate: Path) -> str:
    """Its version and its path, as it says itself: a pyenv shim on PATH is a script that may run
    nothing, and a process of its own where it does. Empty where nothing answers.
    """
    try:
        answer = subprocess.run(
            [candidate, "-c", _PROBE], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
