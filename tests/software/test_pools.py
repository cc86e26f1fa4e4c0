"""Programs that give the GIL up in C: numpy, zlib, Dask, gevent's loop and its threads."""

from __future__ import annotations

import re

from software.harness import PROGRAMS, Seen, Software, check_in_perfetto, check_stamps, look_at


def same_output(software: Software, script: str, stamps: int) -> Seen:
    command = (software.python, str(PROGRAMS / script))
    software.note("command", f"`{script}`")
    alone = software.run(*command)
    done = software.record(*command)
    assert (done.exit_code, alone.exit_code) == (0, 0), done.errors
    assert sorted(re.sub(r"stamp.*", "", done.output).split()) == sorted(
        re.sub(r"stamp.*", "", alone.output).split()
    )
    seen = look_at(software, done)
    check_stamps(seen, done.output, at_least=stamps)
    return seen


def test_numpy_and_zlib(software: Software) -> None:
    software.note("program", "numpy, zlib")
    software.note("check", "120 results, stamps")
    seen = same_output(software, "pool.py", stamps=120)
    crunchers = seen.threads(r"cruncher_\d")
    assert {thread["name"] for thread in crunchers} == {f"cruncher_{n}" for n in range(4)}
    check_in_perfetto(seen)


def test_dask(software: Software) -> None:
    software.note("program", "Dask, threaded scheduler")
    software.note("check", "the sum of 200 blocks, stamps")
    seen = same_output(software, "dask_sum.py", stamps=200)
    assert len(seen.threads(r"ThreadPoolExecutor-0_\d")) == 4


def test_gevent(software: Software) -> None:
    software.note("program", "gevent")
    software.note("check", "1,050 echoes between greenlets, 50 digests in its threads")
    seen = same_output(software, "gevent_echo.py", stamps=0)
    (process,) = seen.processes()
    assert "MainThread" in seen.names(process)
    assert len(process["threads"]) > 1
