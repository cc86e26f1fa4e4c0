"""The real Python Plus, as `make plus` has built it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from support import interpreters

from gilscope.interpreter import build, check, patches, places, source
from gilscope.interpreter.release import RELEASES, VARIANTS

RELEASE, PLUS = RELEASES["3.13"], VARIANTS[""]


def output(*command: str | Path, folder: Path) -> str:
    """What it prints; it must end well."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_built_from_the_present_sources() -> None:
    assert build.is_up_to_date(RELEASE, PLUS), "make plus"


def test_it_says_what_it_has(tmp_path: Path) -> None:
    python = interpreters.path(interpreters.PLUS)
    seen = check.look(python)
    assert seen.version == RELEASE.full
    assert seen.built_in is not None
    assert {"probe", "locks"} <= {name for name, value in seen.has.items() if value is True}
    gilscope = (sys.executable, "-m", "gilscope", "interpreter")
    path = output(*gilscope, "path", folder=tmp_path).strip()
    assert Path(path).resolve() == python.resolve()
    assert f"  {path}\n" in output(*gilscope, "list", folder=tmp_path)


def test_venv_and_pip(tmp_path: Path) -> None:
    """A package is built and installed in a venv, and its command runs."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "greet.py").write_text("def main():\n    print('hello')\n")
    (project / "pyproject.toml").write_text(
        textwrap.dedent("""
            [build-system]
            requires = []
            build-backend = "backend"
            backend-path = ["."]
        """)
    )
    (project / "backend.py").write_text(BACKEND)
    environment = tmp_path / "venv"
    output(interpreters.path(interpreters.PLUS), "-m", "venv", environment, folder=tmp_path)
    pip = (environment / "bin" / "python", "-m", "pip")
    output(*pip, "install", "--no-index", "--no-deps", project, folder=tmp_path)
    assert output(environment / "bin" / "greet", folder=tmp_path) == "hello\n"


# The least that pip takes for a build backend: nothing has to be brought from elsewhere.
BACKEND = """
import zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "greet-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        wheel.write("greet.py")
        info = "greet-1.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: greet\\nVersion: 1\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\\ngreet = greet:main\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


def test_the_pinned_source(tmp_path: Path) -> None:
    """The archive that was kept has the tree that a folder is held to; the series fits it."""
    source.unpack(places.builds() / RELEASE.archive, RELEASE, tmp_path / "tree")
    assert source.tree_digest(tmp_path / "tree") == RELEASE.tree_sha256
    patches.apply(patches.series(RELEASE.patches), tmp_path / "tree")
