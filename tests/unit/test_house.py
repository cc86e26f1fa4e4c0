"""The order of the house: which way imports run, what is imported when, what is never written."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# feed → probe → sync, recorder → trace → perfetto → analysis → viewers/cli: a layer knows those
# before it. `errors`, `_native` and the vocabulary in `schema` belong to everybody.
LAYERS = (
    *("probe", "sync", "live", "recorder", "attach", "trace", "perfetto", "analysis", "export"),
    *("viewers", "interpreter", "benchmarks", "integrations", "cli"),
)
EVERYBODYS = ("gilscope", "gilscope.errors", "gilscope._native", "gilscope.trace.schema")
FACE = ("__init__", "__main__")  # gilscope/__init__.py leads to every layer, lazily
HEAVY = ("numpy", "perfetto", "google.protobuf", "rich", "psutil")


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Every Python file of the package with its module's name."""
    for folder, package in (
        (root / "gilscope", "gilscope"),
        (root / "viewers", "gilscope.viewers"),
    ):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *parts)), path


def imports(module: str, path: Path) -> Iterator[str]:
    """Names of gilscope's own modules that the file imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(module: str) -> int | None:
    """The layer's number; None for what belongs to everybody or is not ours."""
    parts = module.split(".")
    if parts[0] != "gilscope" or len(parts) < 2 or parts[1] not in LAYERS:
        return None
    if any(module == name or module.startswith(f"{name}.") for name in EVERYBODYS[1:]):
        return None
    return LAYERS.index(parts[1])


def test_python_imports_run_one_way(root: Path) -> None:
    seen = 0
    backwards = []
    for module, path in sources(root):
        own = layer(module)
        if own is None:
            continue
        for imported in imports(module, path):
            target = layer(imported)
            if target is not None:
                seen += 1
                if target > own:
                    backwards.append(f"{module} imports {imported}")
    assert backwards == []
    assert seen > 0


def test_c_includes_run_one_way(root: Path) -> None:
    seen = 0
    backwards = []
    for path in (root / "gilscope").rglob("*.[ch]"):
        for name in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE):
            included = (path.parent / name).resolve().relative_to(root / "gilscope")
            own = path.relative_to(root / "gilscope")
            if len(own.parts) == 1:  # the face of a library
                continue
            seen += 1
            if LAYERS.index(included.parts[0]) > LAYERS.index(own.parts[0]):
                backwards.append(f"{own} includes {included}")
            speaks_python = own.parts[:2] == ("probe", "interpreter")  # compiled into Python Plus
            assert "Python.h" not in included.name or speaks_python
    assert backwards == []
    assert seen > 0


@pytest.mark.parametrize(
    "statement",
    [
        "import gilscope",
        "import gilscope.cli",
        "import gilscope.cli.record",
        "from gilscope.cli import main; main(['--help'])",
    ],
)
def test_nothing_heavy_is_imported_early(statement: str) -> None:
    program = f"""
import sys
try:
    exec({statement!r})
except SystemExit:
    pass
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_machine_is_named(root: Path) -> None:
    """No path of the machine that a file was written on."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    homes = {Path.home(), root, root.parent, Path("/", "root"), Path("/", "work")} - {Path("/")}
    names = [f"{home}/".encode() for home in homes]
    found = []
    for name in filter(None, tracked):
        path = root / name.decode()
        if path.is_file():
            text = path.read_bytes()
            found += [(path.name, machine) for machine in names if machine in text]
    assert found == []
    assert len(tracked) > 20
