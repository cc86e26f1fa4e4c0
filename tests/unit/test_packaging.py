"""What is in the wheel and the sdist, and that both kinds of install work in a fresh venv.

The builds run on a copy of the project, so that they leave nothing in it. No package index is
asked: the environment that runs the tests has setuptools, and what is checked in the fresh venv
needs none of gilscope's dependencies, which proves at the same time that they are imported late.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARIES = {"gilscope/_probe.so", "gilscope/_engine.so", "gilscope/_sync.abi3.so"}


def build(kind: str, tree: Path, out: Path) -> Path:
    """Run setuptools' build hook in the tree; returns what it made."""
    program = (
        "import sys, setuptools.build_meta as backend;"
        f"print(getattr(backend, 'build_' + {kind!r})(sys.argv[1]), file=sys.stderr)"
    )
    strict = {**os.environ, "GILSCOPE_BUILD_STRICT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, out],
        cwd=tree,
        env=strict,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out / done.stderr.splitlines()[-1]


def copy(to: Path) -> Path:
    """The project's files as git knows them, those that are not committed yet included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def install(archive: Path, environment: Path) -> Path:
    """Install it, without dependencies, in a fresh venv; returns the venv's commands' folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", environment / "bin" / "python"]
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--no-cache-dir", archive], check=True
    )
    return environment / "bin"


def output(*command: str | Path) -> str:
    """What a command prints, run where no file of the project is near."""
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_installed(commands: Path) -> None:
    version = output(commands / "gilscope", "--version")
    assert output(commands / "python", "-m", "gilscope", "--version") == version
    loads = "from gilscope import _native, viewers; _native.probe(); _native.engine()"
    output(commands / "python", "-c", loads)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(tmp_path_factory.mktemp("tree"))


def python_files(root: Path) -> set[str]:
    package = {
        f"gilscope/{path.relative_to(root / 'gilscope')}" for path in root.glob("gilscope/**/*.py")
    }
    return package | {f"gilscope/{path.relative_to(root)}" for path in root.glob("viewers/**/*.py")}


def data_files(root: Path) -> set[str]:
    """What Python Plus is built from, the C sources and the series of patches; a report's files."""
    series = {path for path in root.glob("gilscope/interpreter/patches/*/*") if path.is_file()}
    found = series | set(root.glob("gilscope/probe/*.[ch]"))
    found |= set(root.glob("gilscope/probe/interpreter/*"))
    found |= set(root.glob("gilscope/sync/*.[ch]"))
    assert {"series", "event_abi.h"} <= {path.name for path in found}
    assets = {f"gilscope/{path.relative_to(root)}" for path in root.glob("viewers/report/assets/*")}
    assert len(assets) > 3
    return assets | {str(path.relative_to(root)) for path in found}


def test_wheel(tree: Path, tmp_path: Path) -> None:
    wheel = build("wheel", tree, tmp_path)
    assert wheel.name.startswith("gilscope-")
    assert "-py3-none-linux_" in wheel.name  # one for every Python version, none for another system
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert files >= python_files(tree) | LIBRARIES
    assert files >= data_files(tree)
    known = {".py", ".pyi", ".so", ".sql", ".textproto", ".typed", ".1"}
    unexpected = {name for name in files - data_files(tree) if Path(name).suffix not in known}
    assert unexpected == set()
    check_installed(install(wheel, tmp_path / "venv"))


def test_sdist_builds_the_same_wheel(tree: Path, tmp_path: Path) -> None:
    sdist = build("sdist", tree, tmp_path)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path)
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    c_files = {path.relative_to(tree) for path in tree.glob("gilscope/**/*.[ch]")}
    assert {path.relative_to(unpacked) for path in unpacked.glob("gilscope/**/*.[ch]")} == c_files
    assert len(c_files) > 10
    for name in ("Makefile", "README.md", "LICENSE", "tests/unit/test_packaging.py"):
        assert (unpacked / name).is_file(), name
    with zipfile.ZipFile(build("wheel", unpacked, tmp_path)) as archive:
        assert set(archive.namelist()) >= python_files(tree) | data_files(tree) | LIBRARIES


def test_editable_install(tree: Path, tmp_path: Path) -> None:
    commands = install(build("editable", tree, tmp_path), tmp_path / "venv")
    check_installed(commands)
    where = "import gilscope.viewers; print(gilscope.viewers.__file__)"
    assert output(commands / "python", "-c", where) == f"{tree / 'viewers' / '__init__.py'}\n"
