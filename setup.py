"""Builds gilscope's shared libraries. Two are plain C, called by ctypes: no Python.h, no ABI tag,
one build for every interpreter. The third is an extension module on Python's stable ABI of 3.10:
one build for every interpreter that can import gilscope."""

from __future__ import annotations

import os
import re
import sys
from distutils.command.install_data import install_data  # of setuptools, which is loaded
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

COMMON = ["-std=c11", "-O2", "-g1", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror=implicit"]
COMMON += [f"-ffile-prefix-map={os.getcwd()}=."]  # the same bytes wherever it is built
if os.environ.get("GILSCOPE_BUILD_STRICT"):
    COMMON += ["-Werror"]

HEADERS = glob("gilscope/**/*.h", recursive=True)  # to rebuild when one changes, and for the sdist

PROBE = Extension(
    "gilscope._probe",
    sources=[
        "gilscope/_probe.c",
        "gilscope/probe/api.c",
        "gilscope/probe/atomic.c",
        "gilscope/probe/fence.c",
        "gilscope/probe/request.c",
        "gilscope/probe/clock.c",
        "gilscope/probe/ring.c",
        "gilscope/probe/process.c",
        "gilscope/probe/threads.c",
        "gilscope/probe/names.c",
        "gilscope/probe/memory.c",
        "gilscope/probe/modules.c",
        "gilscope/probe/python.c",
        "gilscope/probe/frames.c",
        "gilscope/probe/stacks.c",
        "gilscope/probe/park.c",
        "gilscope/probe/gil_condvar.c",
        "gilscope/probe/slice.c",
        "gilscope/probe/policy.c",
        "gilscope/probe/switches.c",
        "gilscope/probe/yield.c",
        "gilscope/probe/schedule.c",
        "gilscope/probe/find_gil.c",
        "gilscope/probe/watched.c",
        "gilscope/probe/release.c",
        "gilscope/probe/interpose.c",
        "gilscope/probe/late.c",
        "gilscope/probe/locks.c",
        "gilscope/probe/waits.c",
        "gilscope/probe/collections.c",
        "gilscope/probe/processor.c",
        "gilscope/probe/exec.c",
        "gilscope/probe/limits.c",
        "gilscope/probe/sleeps.c",
        "gilscope/probe/bench.c",
    ],
    depends=HEADERS,
    extra_compile_args=[*COMMON, "-ftls-model=initial-exec", "-fno-plt"],
    extra_link_args=["-Wl,-z,now", "-Wl,--as-needed"],
)
ENGINE = Extension(
    "gilscope._engine",
    sources=[
        "gilscope/_engine.c",
        "gilscope/attach/stub.c",
        "gilscope/attach/seize.c",
        "gilscope/probe/clock.c",
        "gilscope/live/counters.c",
        "gilscope/recorder/copy.c",
        "gilscope/recorder/gone.c",
        "gilscope/recorder/rooms.c",
        "gilscope/recorder/rooms_space.c",
        "gilscope/recorder/rooms_old.c",
        "gilscope/recorder/switches.c",
        "gilscope/recorder/takers.c",
        "gilscope/recorder/watch.c",
        "gilscope/recorder/standing.c",
        "gilscope/trace/holes.c",
        "gilscope/trace/ring_index.c",
        "gilscope/trace/ring_stacks.c",
        "gilscope/trace/order.c",
        "gilscope/trace/follow.c",
        "gilscope/trace/follow_calls.c",
        "gilscope/trace/follow_index.c",
        "gilscope/trace/follow_resume.c",
        "gilscope/trace/story.c",
        "gilscope/perfetto/encode.c",
        "gilscope/perfetto/decode.c",
        "gilscope/analysis/blame.c",
        "gilscope/analysis/distribution.c",
        "gilscope/analysis/stretches.c",
        "gilscope/benchmarks/floors.c",
    ],
    depends=HEADERS,
    extra_compile_args=[*COMMON, "-O3"],
    extra_link_args=["-Wl,--as-needed"],
)
SYNC = Extension(
    "gilscope._sync",
    sources=[
        "gilscope/_sync.c",
        "gilscope/sync/sync.c",
        "gilscope/sync/feed.c",
        "gilscope/sync/forks.c",
        "gilscope/sync/rlock.c",
        "gilscope/sync/condition.c",
        "gilscope/sync/atomic.c",
        "gilscope/sync/empty.c",
    ],
    depends=HEADERS,
    define_macros=[("Py_LIMITED_API", "0x030A0000")],
    py_limited_api=True,
    # Python's own headers and slots leave parameters unused.
    extra_compile_args=[*COMMON, "-fno-plt", "-Wno-unused-parameter"],
    extra_link_args=["-Wl,-z,now", "-Wl,--as-needed"],
)


MANUAL = Path("build", "man", "gilscope.1")

HOME = "https://github.com/gilscope/gilscope"  # as in pyproject.toml


def readme() -> str:
    """README.md as PyPI shows it: what lies beside it here is named by its address."""
    text = Path("README.md").read_text(encoding="utf-8")
    beside = r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)"
    return re.sub(
        beside,
        lambda link: f"{link[1]}[{link[2]}]({HOME}/{'raw' if link[1] else 'blob'}/main/{link[3]})",
        text,
    )


class BuildLibraries(build_ext):
    """Names the results `_probe.so`, `_engine.so` and `_sync.abi3.so`, whatever builds them."""

    def get_ext_filename(self, fullname: str) -> str:
        """No tag of a Python version in the name."""
        suffix = ".abi3.so" if fullname.endswith("_sync") else ".so"
        return os.path.join(*fullname.split(".")) + suffix

    def get_libraries(self, ext: Extension) -> list[str]:
        """No libpython."""
        return []


class PlatformWheel(bdist_wheel):
    """The wheel depends on the platform but on no Python version."""

    def get_tag(self) -> tuple[str, str, str]:
        """Any Python 3, no ABI, this platform."""
        return ("py3", "none", super().get_tag()[2])


class WithManual(install_data):
    """Writes the manual page, of the command line's own parsers, before it is taken along."""

    def run(self) -> None:
        """`MANUAL`, from the sources beside this file."""
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
        from gilscope.cli.manual import page  # noqa: PLC0415

        MANUAL.parent.mkdir(parents=True, exist_ok=True)
        MANUAL.write_text(page(), encoding="utf-8")
        super().run()


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    data_files=[("share/man/man1", [str(MANUAL)])],
    ext_modules=[PROBE, ENGINE, SYNC],
    cmdclass={
        "build_ext": BuildLibraries,
        "bdist_wheel": PlatformWheel,
        "install_data": WithManual,
    },
)
