"""jemalloc preloaded by the user: both libraries are loaded, and malloc is jemalloc's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from software.harness import PROGRAMS, Software, check_stamps, look_at

_MAPS = "print(*{l.split()[-1] for l in open('/proc/self/maps') if 'jemalloc' in l})"


@pytest.fixture(scope="session")
def jemalloc(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of Debian's package, installed or unpacked beside the test."""
    system = sorted(Path("/usr/lib").glob("*/libjemalloc.so.2"))
    if system:
        return system[0]
    folder = tmp_path_factory.mktemp("jemalloc")
    fetched = subprocess.run(
        ["apt-get", "download", "-qq", "libjemalloc2"], cwd=folder, check=False
    )
    if fetched.returncode:
        pytest.fail("the test needs jemalloc: apt-get install libjemalloc2", pytrace=False)
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg", "-x", package, folder], check=True)
    (library,) = folder.glob("usr/lib/*/libjemalloc.so.2")
    return library


def test_jemalloc_preloaded(software: Software, jemalloc: Path) -> None:
    software.note("program", "jemalloc")
    software.note("command", "`LD_PRELOAD=libjemalloc.so.2 pool.py`")
    software.note("check", "it is loaded; 120 results, stamps")
    env = {"LD_PRELOAD": str(jemalloc), "MALLOC_CONF": "stats_print:true"}
    maps = software.record(software.python, "-c", _MAPS, env=env)
    assert maps.output.strip() == str(jemalloc)
    command = (software.python, str(PROGRAMS / "pool.py"))
    alone = software.run(*command, env=env)
    done = software.record(*command, env=env)
    assert (done.exit_code, alone.exit_code) == (0, 0), done.errors
    assert "jemalloc statistics" in done.errors
    seen = look_at(software, done)
    check_stamps(seen, done.output, at_least=120)
    assert len(seen.threads(r"cruncher_\d")) == 4
