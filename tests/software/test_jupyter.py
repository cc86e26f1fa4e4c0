"""A Jupyter kernel, started and spoken to by jupyter_client; both are recorded."""

from __future__ import annotations

import re

from software.harness import PROGRAMS, Software, check_stamps, look_at


def test_jupyter_kernel(software: Software) -> None:
    software.note("program", "ipykernel, jupyter_client")
    software.note("command", "`jupyter_cells.py` (starts a kernel, runs 7 cells)")
    software.note("check", "the cells' answers, stamps")
    command = (software.python, str(PROGRAMS / "jupyter_cells.py"))
    env = {"IPYTHONDIR": str(software.folder), "JUPYTER_RUNTIME_DIR": str(software.folder)}
    alone = software.run(*command, env=env)
    done = software.record(*command, env=env)
    assert done.exit_code == alone.exit_code == 0, done.errors
    assert re.sub(r"stamp.*", "", done.output) == re.sub(r"stamp.*", "", alone.output)
    assert alone.output.endswith("over\n")
    seen = look_at(software, done)
    check_stamps(seen, done.output, at_least=2)
    (kernel,) = seen.processes("ipykernel")
    assert {"MainThread", "Heartbeat", "IOPub", "cell-0", "cell-1", "cell-2"} <= seen.names(kernel)
