"""Runs a command whose output is for gilscope, which alone gets Ctrl-C and ends the command."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

_GOODBYE_S = 10


def output_of(
    command: Sequence[str], timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with its output as text, whatever its exit code.

    Where that is broken off, by the time-out or by an exception, the command gets SIGTERM and time
    to tidy up: a recorder that is killed leaves its rings behind. Raises OSError, TimeoutExpired.
    """
    with subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.terminate()
            try:
                process.communicate(timeout=_GOODBYE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)
