"""Runs an interpreter to see what it is and has."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gilscope.errors import BuildError
from gilscope.interpreter import toolchain

PATIENCE_S = 300

_PROGRAM = """
import importlib, json, platform, sys
missing = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        missing.append(f"{name} ({error})")
try:
    import ctypes
    built_in = ctypes.c_int.in_dll(ctypes.PyDLL(None), "gilscope_built_in").value
except (ImportError, ValueError):
    built_in = None
has = {
    name: value for name, value in vars(getattr(sys, "_gilscope", type(sys)("none"))).items()
    if type(value) in (bool, int, str) and not name.startswith("__")
}
print(json.dumps({
    "version": platform.python_version(), "missing": missing, "built_in": built_in, "has": has,
}))
"""

# Whatever the patches touch: hand-overs of the GIL, locks, conditions, sleeps, a fork.
_EXERCISE = """
import os, queue, threading, time
passed, done = queue.Queue(2), []
condition, lock = threading.Condition(), threading.RLock()
def work(number):
    for turn in range(200):
        with lock:
            passed.put(turn)
            passed.get()
        if turn % 50 == 0:
            time.sleep(0.001)
    with condition:
        done.append(number)
        condition.notify_all()
threads = [threading.Thread(target=work, args=(n,), name=f"check-{n}") for n in range(4)]
for thread in threads:
    thread.start()
with condition:
    assert condition.wait_for(lambda: len(done) == 4, 60), "threads do not come to their end"
for thread in threads:
    thread.join()
child = os.fork()
if child == 0:
    work(5)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0, "a fork's child does not work"
"""


@dataclass(frozen=True)
class Seen:
    """What an interpreter says about itself."""

    version: str  # "3.13.5"
    missing: list[str]  # of the modules that were asked for, each with its reason
    built_in: int | None  # version of the probe that is compiled in; None: there is none
    has: dict[str, bool | int | str]  # what sys._gilscope says

    def __str__(self) -> str:
        if self.built_in is None:
            return f"{self.version}, no probe inside"
        has = [
            name if value is True else f"{name} {value}"
            for name, value in self.has.items()
            if value is True or isinstance(value, str)
        ]
        return f"{self.version}, built in: {', '.join(has) or 'probe'}"


def look(python: Path, modules: Sequence[str] = ()) -> Seen:
    """Ask an interpreter. Raises BuildError when it does not run."""
    return Seen(**json.loads(_run(python, "-I", "-c", _PROGRAM, *modules)))


def verify(python: Path, version: str, *, probe: bool) -> None:
    """Raises BuildError that says what a freshly built interpreter lacks."""
    needed = [library.module for library in toolchain.LIBRARIES.values() if library.required]
    seen = look(python, needed)
    if seen.version != version:
        raise BuildError(f"what was built says that it is Python {seen.version}, not {version}")
    if seen.missing:
        raise BuildError(f"what was built lacks {', '.join(seen.missing)}")
    if probe and seen.built_in is None:
        raise BuildError("what was built has no probe inside, though the patches were applied")
    for policy in ("classic", "io-priority") if probe else ():
        _run(python, "-I", "-X", f"gilscope.policy={policy}", "-c", _EXERCISE)
    with tempfile.TemporaryDirectory(prefix="gilscope-check-") as folder:
        _run(python, "-I", "-m", "venv", folder)
        _run(Path(folder) / "bin" / "python", "-I", "-m", "pip", "--version")


def _run(*command: str | Path) -> str:
    try:
        done = subprocess.run(
            command,
            env=toolchain.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
        )
    except OSError as error:
        raise BuildError(f"{command[0]} does not run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} does not answer within {PATIENCE_S} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        what = " ".join(
            str(argument) for argument in command[1:4] if argument not in (_PROGRAM, _EXERCISE)
        )
        raise BuildError(
            f"{command[0]} {what} ends with {done.returncode}: {' '.join(said) or 'no word why'}"
        )
    return done.stdout
