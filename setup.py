"""Builds gilscope's two shared libraries. They are plain C, called by ctypes: no Python.h, no ABI
tag, one build for every interpreter."""

from __future__ import annotations

import os
from glob import glob

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

COMMON = ["-std=c11", "-O2", "-g1", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror=implicit"]
if os.environ.get("GILSCOPE_BUILD_STRICT"):
    COMMON += ["-Werror"]

HEADERS = glob("gilscope/**/*.h", recursive=True)  # to rebuild when one changes, and for the sdist

PROBE = Extension(
    "gilscope._probe",
    sources=[
        "gilscope/_probe.c",
        "gilscope/probe/api.c",
        "gilscope/probe/clock.c",
        "gilscope/probe/ring.c",
        "gilscope/probe/process.c",
        "gilscope/probe/python.c",
        "gilscope/probe/interpose.c",
        "gilscope/probe/exec.c",
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
        "gilscope/trace/ring_index.c",
        "gilscope/trace/order.c",
        "gilscope/trace/story.c",
        "gilscope/perfetto/encode.c",
        "gilscope/perfetto/decode.c",
        "gilscope/analysis/blame.c",
        "gilscope/analysis/distribution.c",
        "gilscope/analysis/stretches.c",
    ],
    depends=HEADERS,
    extra_compile_args=[*COMMON, "-O3"],
    extra_link_args=["-Wl,--as-needed"],
)


class BuildLibraries(build_ext):
    """Names the results `_probe.so` and `_engine.so`, whatever Python builds them."""

    def get_ext_filename(self, fullname: str) -> str:
        """No tag of a Python version in the name."""
        return os.path.join(*fullname.split(".")) + ".so"

    def get_libraries(self, ext: Extension) -> list[str]:
        """No libpython."""
        return []


class PlatformWheel(bdist_wheel):
    """The wheel depends on the platform but on no Python version."""

    def get_tag(self) -> tuple[str, str, str]:
        """Any Python 3, no ABI, this platform."""
        return ("py3", "none", super().get_tag()[2])


setup(
    ext_modules=[PROBE, ENGINE],
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": PlatformWheel},
)
