"""What is released: the same bytes from the same commit, an old glibc is enough, PyPI takes it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEWEST = (2, 17)  # glibc, as the tag of the wheels says
LIBRARIES = {"libc.so.6", "libpthread.so.0", "libdl.so.2"}  # musl takes these names for its own


def release(out: Path, *arches: str) -> list[Path]:
    """Build in a folder that is named after `out`, as if it was this second."""
    scratch = out.with_name(f"{out.name}-scratch")
    scratch.mkdir()
    options = [f"--arch={arch}" for arch in arches]
    subprocess.run(
        [sys.executable, ROOT / "release" / "wheels.py", out, *options],
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "TMPDIR": str(scratch)},
        capture_output=True,
        check=True,
    )
    return sorted(out.iterdir())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "dist"
    release(out, "x86_64", "aarch64")
    return out


def test_a_release_is_an_sdist_and_a_wheel_an_architecture(built: Path) -> None:
    names = {path.name.split("-", 2)[-1] for path in built.iterdir()}
    tags = {f"py3-none-manylinux_2_17_{arch}.whl" for arch in ("x86_64", "aarch64")}
    (sdist,) = names - tags
    assert sdist.endswith(".tar.gz")
    for wheel in built.glob("*.whl"):
        files = {name.rpartition("/")[2] for name in zipfile.ZipFile(wheel).namelist()}
        assert {"py.typed", "_sync.pyi", "gilscope.1", "LICENSE"} <= files


def test_the_same_bytes_wherever_and_whenever_it_is_built(built: Path, tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        again = release(tmp_path / "again", "x86_64")
    finally:
        os.umask(old)
    assert len(again) == 2
    for path in again:
        assert path.read_bytes() == (built / path.name).read_bytes(), path.name


def test_an_old_glibc_is_enough(built: Path, tmp_path: Path) -> None:
    seen = set()
    for wheel in built.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in filter(re.compile(r"\.so$").search, archive.namelist()):
                library = archive.extract(name, tmp_path / wheel.stem)
                text = subprocess.run(
                    ["readelf", "--wide", "--dynamic", "--dyn-syms", "--file-header", library],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
                machine = re.search(r"Machine: +(.*)", text)
                needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", text))
                versions = {
                    tuple(map(int, version.split(".")))
                    for version in re.findall(r"@GLIBC_([0-9.]+)", text)
                }
                assert versions
                assert max(versions) <= NEWEST, name
                assert needed <= LIBRARIES, name
                assert b"scratch" not in Path(library).read_bytes()  # where it was built
                assert machine is not None
                seen.add((machine[1], Path(name).name))
    assert len(seen) == 6


def test_pypi_takes_it(built: Path) -> None:
    """Metadata, and a README that it can render."""
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *built.iterdir()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 3


def test_what_the_page_on_pypi_links_to_is_not_beside_it(built: Path) -> None:
    (wheel,) = built.glob("*x86_64.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    head, _, text = metadata.partition("\n\n")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://")] == []
    urls = dict(re.findall(r"^Project-URL: (.*), (.*)$", head, re.MULTILINE))
    assert {"Documentation", "Source", "Changelog", "Issues"} <= set(urls)
