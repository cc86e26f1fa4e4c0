"""Builds of the probe that are for measurements and tests alone, by macro.

The library that programs get has none of them in it, so that it is no slower for them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from gilscope.errors import InstallationError
from gilscope.interpreter.places import builds

RULES = "GILSCOPE_TEST_RULES"  # rules.h: a rule of the policy can be left out
WINDOWS = "GILSCOPE_TEST_WINDOWS"  # windows.h: threads stay where others could come between

_PROBE = Path(__file__).parents[1] / "probe"
_BUILT_IN = {"built_in", "condvar"}  # for Python Plus
# As setup.py has them.
_FLAGS = "-std=c11 -O2 -g1 -DNDEBUG -fPIC -fvisibility=hidden -ftls-model=initial-exec -fno-plt"


def built(macro: str, sources: Path = _PROBE) -> Path:
    """The probe with this macro, to be preloaded; compiled once for each state of its sources.

    `sources` is another folder of them: an older version, to compare with. Raises
    InstallationError where it cannot be compiled.
    """
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        raise InstallationError("this needs a C compiler; on Debian: apt-get install gcc libc6-dev")
    files = sorted(path for path in sources.glob("*.c") if path.stem not in _BUILT_IN)
    files.append(sources.parent / "_probe.c")
    digest = hashlib.sha256(f"{compiler} {_FLAGS} {macro}".encode())
    for path in (*files, *sorted(sources.glob("*.h"))):
        digest.update(path.read_bytes())
    library = builds() / "probes" / f"{digest.hexdigest()[:24]}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        made = library.with_suffix(f".{os.getpid()}")
        words = [compiler, *_FLAGS.split(), *([f"-D{macro}"] if macro else []), "-shared"]
        words += ["-pthread", "-Wl,-z,now", "-o", str(made), *map(str, files), "-ldl"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InstallationError(f"the probe cannot be compiled: {done.stderr.strip()}")
        made.replace(library)
    return library
