"""The source of an interpreter, wherever it comes from, is the pinned one or is refused."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.fake_cpython import VERSION, FakeCPython

from gilscope.errors import BuildError
from gilscope.interpreter import source
from gilscope.interpreter.progress import Lines
from gilscope.interpreter.release import Release


@pytest.fixture
def fake(tmp_path: Path) -> FakeCPython:
    return FakeCPython(tmp_path / "fake")


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    (tmp_path / "archives").mkdir()
    return tmp_path / "archives"


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `apt-get` with two mirrors, the first of them gone; it brings what is put in `pool`."""
    pool = tmp_path / "pool"
    pool.mkdir()
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "apt-get"
    script.write_text(f"""#!/bin/sh
for argument; do
    case $argument in
        indextargets) echo http://gone/; echo http://here/; exit ;;
        -oDir::Etc::SourceList=*) sources=$(cat ${{argument#*=}}) ;;
        update) case $sources in *gone*) echo "E: http://gone/ is gone" >&2; exit 100 ;; esac ;;
        source) cp {pool}/* . ; exit ;;
    esac
done
""")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    return pool


@contextmanager
def upstream(folder: Path) -> Iterator[str]:
    """A server of the folder's files."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def bring(release: Release, given: Path | None, archives: Path) -> Path:
    return source.bring(release, given, archives, Lines())


def test_from_upstream_once(fake: FakeCPython, archives: Path) -> None:
    with upstream(fake.folder) as address:
        release = fake.release(f"{address}/{fake.archive.name}")
        found = bring(release, None, archives)
    assert found.read_bytes() == fake.archive.read_bytes()
    assert bring(release, None, archives) == found  # nobody answers any more


def test_from_debian_where_upstream_does_not_answer(
    fake: FakeCPython, archives: Path, apt: Path
) -> None:
    (apt / f"python3.13_{VERSION}.orig.tar.xz").write_bytes(fake.archive.read_bytes())
    (apt / f"python3.13_{VERSION}.orig.tar.xz.asc").write_text("signature")
    found = bring(fake.release(), None, archives)
    assert found.read_bytes() == fake.archive.read_bytes()
    assert list(archives.iterdir()) == [found]


def test_nobody_has_it(fake: FakeCPython, archives: Path, apt: Path) -> None:
    (apt / "python3.13_3.13.100.orig.tar.xz").write_text("newer")
    with pytest.raises(BuildError) as error, upstream(fake.folder) as address:
        bring(fake.release(f"{address}/elsewhere"), None, archives)
    for part in ("File not found", "http://gone/ is gone", "not 3.13.99 any more", "--source PATH"):
        assert part in str(error.value)
    assert list(archives.iterdir()) == []


def test_no_network_and_no_apt(
    fake: FakeCPython, archives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match=r"Connection refused; apt: there is no apt-get here"):
        bring(fake.release(), None, archives)


def test_a_wrong_checksum_whatever_the_origin(fake: FakeCPython, archives: Path, apt: Path) -> None:
    release = fake.release()
    (apt / f"python3.13_{VERSION}.orig.tar.xz").write_bytes(b"from Debian")
    fake.archive.write_bytes(b"from upstream")
    (archives / fake.archive.name).write_bytes(b"from an earlier time")
    with pytest.raises(BuildError) as error, upstream(fake.folder) as address:
        bring(replace(release, url=f"{address}/{fake.archive.name}"), None, archives)
    assert str(error.value).count("is not the source of CPython 3.13.99: its SHA-256 is") == 2
    with pytest.raises(BuildError, match="is not the source of CPython"):
        bring(release, fake.archive, archives)
    with pytest.raises(BuildError, match="No such file"):
        bring(release, fake.archive.with_name("none"), archives)


@pytest.mark.parametrize("stopped_by", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_download_that_is_stopped_leaves_nothing(
    fake: FakeCPython,
    archives: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped_by: BaseException,
) -> None:
    def download(_: Release, to: Path, __: Lines) -> None:
        to.write_bytes(b"the beginning")
        raise stopped_by

    monkeypatch.setattr(source, "_download", download)
    with pytest.raises(type(stopped_by)):
        bring(fake.release(), None, archives)
    assert list(archives.iterdir()) == []


def test_an_archive_that_was_given_is_kept(fake: FakeCPython, archives: Path) -> None:
    release = fake.release()
    kept = bring(release, fake.archive, archives)
    assert kept.parent == archives  # the copy is what was checked
    content = fake.archive.read_bytes()
    fake.archive.unlink()
    assert bring(release, None, archives).read_bytes() == content


def test_archive_and_folder_make_the_same_tree(fake: FakeCPython, tmp_path: Path) -> None:
    release = fake.release()
    for number, given in enumerate((fake.archive, fake.tree)):
        source.unpack(given, release, tmp_path / f"tree{number}")
        assert source.tree_digest(tmp_path / f"tree{number}") == release.tree_sha256
        assert (tmp_path / f"tree{number}" / "configure").stat().st_mode & 0o111


@pytest.mark.parametrize("what", ["changed", "added", "deleted", "link"])
def test_a_folder_that_is_not_as_released(fake: FakeCPython, tmp_path: Path, what: str) -> None:
    release = fake.release()
    if what == "changed":
        (fake.tree / "core.c").write_text("other")
    elif what == "added":
        (fake.tree / "core.o").touch()
    elif what == "deleted":
        (fake.tree / "core.c").unlink()
    else:
        (fake.tree / "link.c").symlink_to("core.c")
    with pytest.raises(BuildError, match="not the source of CPython"):
        source.unpack(fake.tree, release, tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_folder_of_something_else_is_not_copied(fake: FakeCPython, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # a copy would say that it has one
    with pytest.raises(BuildError, match="not the source of CPython"):
        source.unpack(tmp_path, fake.release(), tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_folder_that_cannot_be_copied(fake: FakeCPython, tmp_path: Path) -> None:
    release = fake.release()
    os.mkfifo(fake.tree / "pipe")
    with pytest.raises(BuildError, match=r"/pipe cannot be copied: .*named pipe"):
        source.unpack(fake.tree, release, tmp_path / "tree")


def _link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("/absolute"),
        tarfile.TarInfo(f"Python-{VERSION}/../../up"),
        tarfile.TarInfo("elsewhere/file"),
        _link(f"Python-{VERSION}/link", tarfile.SYMTYPE, "/etc/passwd"),
        _link(f"Python-{VERSION}/hard", tarfile.LNKTYPE, "/etc/passwd"),
        _link(f"Python-{VERSION}/device", tarfile.CHRTYPE, ""),
        _link(f"Python-{VERSION}/fifo", tarfile.FIFOTYPE, ""),
    ],
    ids=lambda member: member.name,
)
def test_an_archive_cannot_escape(
    fake: FakeCPython, tmp_path: Path, member: tarfile.TarInfo
) -> None:
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as file:
        file.addfile(tarfile.TarInfo(f"Python-{VERSION}/good"), io.BytesIO())
        file.addfile(member, io.BytesIO())
    (tmp_path / "at").mkdir()
    with pytest.raises(BuildError, match="the archive holds"):
        source.unpack(archive, fake.release(), tmp_path / "at" / "tree")
    assert not list(tmp_path.rglob("good"))


def test_a_damaged_archive(fake: FakeCPython, tmp_path: Path) -> None:
    fake.archive.write_bytes(fake.archive.read_bytes()[:300])
    with pytest.raises(BuildError, match="cannot be unpacked"):
        source.unpack(fake.archive, fake.release(), tmp_path / "tree")
