"""An extension in C++ whose own threads, which Python did not make, call back into Python."""

from __future__ import annotations

import re
import subprocess

from software.harness import PROGRAMS, Software, check_stamps, look_at

_INCLUDE = "import sysconfig; print(sysconfig.get_path('include'))"


def test_threads_of_cpp_call_back(software: Software) -> None:
    software.note("program", "a C++ extension (`PyGILState_Ensure`)")
    software.note("command", "`callback_user.py`")
    software.note("check", "4 x 500 calls counted, stamps")
    include = subprocess.run(
        [software.python, "-c", _INCLUDE], capture_output=True, text=True, check=True
    ).stdout.strip()
    subprocess.run(
        [
            *("g++", "-std=c++17", "-O1", "-fPIC", "-shared", "-pthread", f"-I{include}"),
            *("-o", software.folder / "callback.so", PROGRAMS / "callback.cpp"),
        ],
        check=True,
        timeout=100,
    )
    command = (software.python, str(PROGRAMS / "callback_user.py"))
    env = {"PYTHONPATH": str(software.folder)}
    alone = software.run(*command, env=env)
    done = software.record(*command, env=env)
    assert (done.exit_code, alone.exit_code) == (0, 0), done.errors
    assert done.output.splitlines()[0] == alone.output.splitlines()[0]
    seen = look_at(software, done)
    check_stamps(seen, done.output, at_least=40)
    theirs = seen.threads(r"cpp-\d")
    assert {thread["name"] for thread in theirs} == {f"cpp-{n}" for n in range(4)}
    for thread in theirs:
        assert thread["acquires"] >= 500
        assert thread["acquires"] == thread["voluntary_releases"] + thread["forced_yields"]
    assert len(re.findall("stamp", done.output)) == 40
