"""Python Plus of another patch level: the series fits it, or is refused; nobody goes back."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from support import other_patch_level
from support.other_patch_level import FULL, PINNED, patched_files

from gilscope import cli
from gilscope.errors import BuildError, UsageError
from gilscope.interpreter import build, patches, places, source
from gilscope.interpreter.places import Manifest, Place
from gilscope.interpreter.progress import Lines
from gilscope.interpreter.release import VARIANTS

# What each patch puts in, by file.
MARKS = {
    "Python/ceval_gil.c": "gilscope",
    "Lib/threading.py": "_gilscope",
    "Makefile.pre.in": "gilscope.mk",
    "Python/parking_lot.c": "gilscope",
}


@pytest.fixture(scope="module")
def pinned() -> Path:
    """As `make plus` has left it."""
    return places.builds() / PINNED.archive


@pytest.fixture(scope="module")
def moved(pinned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return other_patch_level.write(pinned, tmp_path_factory.mktemp("moved"), whole=False)


def test_the_series_stands_where_its_lines_are_now(moved: Path, tmp_path: Path) -> None:
    release = source.release_of(moved, source.sha256(moved).upper(), PINNED)
    assert (release.full, release.patches) == (FULL, PINNED.patches)
    kept = source.bring(release, moved, tmp_path, Lines())
    tree = tmp_path / "tree"
    source.unpack(kept, release, tree)
    before = {name: (tree / name).read_text() for name in patched_files()}
    assert all("another line" in text for text in before.values())
    patches.apply(patches.series(release.patches), tree)
    for name, text in before.items():
        assert (tree / name).read_text() != text, name
    for name, mark in MARKS.items():
        assert before[name].count(mark) < (tree / name).read_text().count(mark), name


def test_what_does_not_fit_is_refused_whole(
    pinned: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through the command: one line that names patch and file; nothing is built or installed."""
    line = "    if ((breaker & _PY_GIL_DROP_REQUEST_BIT) != 0) {\n"

    def rewritten(name: str, text: str) -> str:
        if name == "Python/ceval_gil.c":
            assert line in text
            return text.replace(line, line.replace(" != 0", ""))
        return text

    for variable in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    archive = other_patch_level.write(pinned, tmp_path, rewritten, whole=False)
    asked = ["interpreter", "build", "--source", str(archive), "--sha256", source.sha256(archive)]
    assert cli.main(asked) == 1
    out, errors = capsys.readouterr()
    told = errors.splitlines()[-1]
    assert out == ""
    assert "0002-gil.patch does not apply" in told
    assert "Python/ceval_gil.c" in told
    assert list(places.installed()) == []


@pytest.mark.parametrize(
    ("full", "why"),
    [
        ("3.14.1", "the source is of CPython 3.14.1; the patches are for 3.13.x"),
        ("3.13.0rc1", "the source is of CPython 3.13.0rc1; the patches are for 3.13.x"),
    ],
)
def test_another_version_is_refused(pinned: Path, tmp_path: Path, full: str, why: str) -> None:
    archive = other_patch_level.write(pinned, tmp_path, full=full, whole=False)
    with pytest.raises(UsageError, match=why):
        source.release_of(archive, source.sha256(archive), PINNED)


def test_a_checksum_that_is_wrong_or_none(moved: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"its SHA-256 is .* nothing was unpacked"):
        source.release_of(moved, "0" * 64, PINNED)
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        source.release_of(moved, "abc", PINNED)
    (tmp_path / "no-archive").write_text("text")
    no_archive = tmp_path / "no-archive"
    with pytest.raises(BuildError, match="no source archive"):
        source.release_of(no_archive, source.sha256(no_archive), PINNED)
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as other:
        other.add(no_archive, "Python-3.13.9/README")
    with pytest.raises(BuildError, match="no source archive"):
        source.release_of(tmp_path / "other.tgz", source.sha256(tmp_path / "other.tgz"), PINNED)


@pytest.mark.parametrize("given", [[], ["--source", "."]])
def test_a_checksum_alone_or_of_a_folder(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["interpreter", "build", *given, "--sha256", "0" * 64]) == 2
    assert "name it with --source ARCHIVE" in capsys.readouterr().err


def test_a_build_keeps_the_newer_patch_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    plus = VARIANTS[""]
    prefix = Place.of(PINNED, plus).prefix
    assert build.newest(PINNED, plus) == PINNED
    prefix.mkdir(parents=True)
    for full, newest in (("3.13.99", "3.13.99"), ("3.13.1", PINNED.full)):
        Manifest(full, "", "key", [], "0" * 64).write(prefix)
        assert build.newest(PINNED, plus).full == newest
    Manifest("3.13.99", "", "key", []).write(prefix)  # by a gilscope that knew no other source
    assert build.newest(PINNED, plus) == replace(PINNED)
