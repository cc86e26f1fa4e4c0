"""Standard streams that are closed or take nothing: the program's business, not gilscope's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support import interpreters
from support.faults import WORK, recording, run, same, script

import gilscope

PYTHON = interpreters.path("3.13")
# Which descriptors it has goes to a file: of its streams some cannot be written to.
TOLD = f"""{WORK}
crew()
with open("descriptors", "w") as file:
    for number in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            file.write(f"{{number}} {{os.readlink(f'/proc/self/fd/{{number}}')[:8]}}\\n")
        except FileNotFoundError:  # that of listdir
            pass
print("said")
raise SystemExit(3)
"""


def redirected(streams: str) -> tuple[str, ...]:
    """For `within`: a shell's redirection."""
    return ("sh", "-c", f'exec "$@" {streams}', "sh")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_what_is_closed_is_closed_for_the_program(tmp_path: Path, closed: str) -> None:
    recorded = same(tmp_path, [PYTHON, script(tmp_path, TOLD)], within=redirected(closed))
    assert recorded.outcome.code in (3, 120)  # 120: CPython cannot flush what it could not write
    assert len(recorded.outcome.files["descriptors"]) > 0
    assert recorded.trace().totals.events > 0


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", "2>/dev/null"])
def test_what_gilscope_cannot_say_changes_nothing(tmp_path: Path, streams: str) -> None:
    """With its summary, which must not go to standard output instead."""
    trace = tmp_path / "trace.pftrace"
    recorded = recording(trace, [PYTHON, script(tmp_path, TOLD)], options=())
    outcome = run([*redirected(streams), *recorded], tmp_path / "run")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (3, "said\n", "")
    assert gilscope.read(trace).metadata.exit_code == 3


def test_a_reader_of_standard_error_that_left_changes_nothing(tmp_path: Path) -> None:
    """As in `gilscope record … 2>&1 | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = recording(tmp_path / "trace.pftrace", [PYTHON, script(tmp_path, TOLD)], options=())
    done = subprocess.run(
        command, stderr=writer, stdout=subprocess.PIPE, cwd=tmp_path, check=False, timeout=120
    )
    os.close(writer)
    assert (done.returncode, done.stdout) == (3, b"said\n")
