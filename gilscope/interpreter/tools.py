"""Runs the tools of a build: their output goes to the log, and the end of it into an error."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from gilscope.errors import BuildError
from gilscope.interpreter import toolchain
from gilscope.interpreter.progress import Progress

REMEMBERED = 200  # lines; a compiler's complaint stands near the end
GRACE_S = 10  # for a tool to end after a signal
COMPILES = " -c "  # in every line with which make compiles a file


class Tools:
    """Owns the log, which begins anew with every build."""

    def __init__(self, log: Path, lock: int, progress: Progress) -> None:
        self._log = log
        self._lock = lock  # a descriptor that every tool inherits
        self._progress = progress
        log.write_bytes(b"")

    def run(self, command: Sequence[str | Path], folder: Path) -> None:
        """Run it; every file that it compiles is progress. Raises BuildError when it fails."""
        arguments = [str(argument) for argument in command]
        last: deque[str] = deque(maxlen=REMEMBERED)
        with self._log.open("ab") as log:
            log.write(f"\n$ cd {folder}\n$ {' '.join(arguments)}\n".encode())
            # A group of its own, so that make and all compilers can be ended together.
            with subprocess.Popen(
                arguments,
                cwd=folder,
                env=toolchain.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self._lock,),
            ) as process:
                assert process.stdout is not None
                try:
                    for line in process.stdout:
                        log.write(line)
                        last.append(line.decode(errors="replace"))
                        self._progress.advance(COMPILES in last[-1])
                    code = process.wait()
                except BaseException:
                    _end(process)
                    raise
        if code != 0:
            name = Path(arguments[0]).name
            raise BuildError(f"{name} failed: {toolchain.diagnose(list(last))}; see {self._log}")

    def count_compilations(self, command: Sequence[str | Path], folder: Path) -> int:
        """How many files a make command is going to compile; 0 when make cannot tell."""
        done = subprocess.run(
            [*map(str, command), "--dry-run"],
            cwd=folder,
            env=toolchain.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(self._lock,),
            check=False,
        )
        return done.stdout.count(COMPILES.encode())


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        else:
            return
