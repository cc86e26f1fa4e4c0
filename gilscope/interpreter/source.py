"""Brings CPython's source, holds it to its checksum, and unpacks it."""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath

from gilscope.errors import BuildError
from gilscope.interpreter.progress import Progress
from gilscope.interpreter.release import Release

PATIENCE_S = 30  # for an answer of a server
BLOCK = 1 << 20
_VERSION_IN = "Include/patchlevel.h"


def bring(release: Release, given: Path | None, archives: Path, progress: Progress) -> Path:
    """Path of an archive with the pinned checksum, or of the directory that was given.

    Without one that is given: what was brought before, else upstream's, else what Debian's source
    package has. An archive is kept for the next build. Raises BuildError that says what each of
    them answered.
    """
    kept = archives / release.archive
    is_kept = kept.is_file() and sha256(kept) == release.sha256
    if given is not None:
        if given.is_dir():
            return given
        return _keep(given, release, kept)
    if is_kept:
        return kept
    answers = []
    for where, get in (("upstream", _download), ("apt", _from_debian)):
        part = kept.with_suffix(".part")
        try:
            progress.step(f"source from {where}")
            get(release, part, progress)
            _check_archive(part, release)
            part.replace(kept)
        except BuildError as error:
            answers.append(f"{where}: {error}")
        else:
            return kept
        finally:  # a full disk, too, and Ctrl-C
            part.unlink(missing_ok=True)
    raise BuildError(
        f"the source of CPython {release.full} cannot be had ({'; '.join(answers)});"
        f" bring {release.archive} here and name it: --source PATH"
    )


def _keep(given: Path, release: Release, kept: Path) -> Path:
    """The copy is what is checked, so nothing changes between the look and the use."""
    part = kept.with_suffix(".part")
    try:
        try:
            shutil.copyfile(given, part)
        except OSError as error:
            at_fault = part if error.filename == str(part) or error.filename is None else given
            raise BuildError(f"{at_fault} cannot be copied: {error.strerror}") from error
        _check_archive(part, release, given.name)
        part.replace(kept)
    finally:
        part.unlink(missing_ok=True)
    return kept


def release_of(archive: Path, sha256_of_it: str, pinned: Release) -> Release:
    """The release whose source is this archive, with the series of the pinned one.

    Raises UsageError, BuildError: another checksum, another version, no source of CPython.
    """
    wanted = sha256_of_it.lower()
    pinned.with_source(pinned.full, wanted)  # whether that can be a checksum at all
    found = sha256(archive)
    if found != wanted:
        raise BuildError(
            f"{archive}: its SHA-256 is {found[:16]}… and not {wanted[:16]}…; nothing was unpacked"
        )
    try:
        with tarfile.open(archive) as packed:
            top = PurePosixPath((packed.next() or tarfile.TarInfo()).name).parts[:1]
            name = "".join(top)
            header = packed.extractfile(f"{name}/{_VERSION_IN}")
            text = header.read().decode() if header else ""
    except (tarfile.TarError, EOFError, KeyError, UnicodeDecodeError) as error:
        raise BuildError(f"{archive} is no source archive of CPython: {error}") from error
    version = re.search(r'^#define PY_VERSION\s+"([^"]+)"', text, re.MULTILINE)
    if version is None or name != f"Python-{version[1]}":
        raise BuildError(f"{archive} is no source archive of CPython as python.org makes them")
    return pinned.with_source(version[1], wanted)


def unpack(source: Path, release: Release, tree: Path) -> None:
    """Make `tree`, which does not exist, from what `bring` returned. Raises BuildError."""
    if source.is_dir():
        _copy(source, release, tree)
        return
    folder = tree.with_name(f"{tree.name}.unpacking")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        with tarfile.open(source) as archive:
            members = archive.getmembers()
            for member in members:
                _check_member(member, release.name)
            # Checked above already; Python 3.12 and later want to be told who checks.
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(folder, members, **safely)  # type: ignore[arg-type]
    except (tarfile.TarError, EOFError) as error:
        raise BuildError(f"{source} cannot be unpacked: {error}") from error
    (folder / release.name).rename(tree)
    folder.rmdir()


def tree_digest(tree: Path) -> str:
    """SHA-256 of the listing of a tree: a line `SHA-256  path` for everything but folders, in the
    order of the paths. CPython's source has plain files only; anything else is listed as such.
    """
    lines = []
    for path in tree.rglob("*"):
        plain = path.is_file() and not path.is_symlink()
        if plain or path.is_symlink() or not path.is_dir():
            lines.append((path.relative_to(tree).as_posix(), sha256(path) if plain else "other"))
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(lines))
    return hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()


def _copy(source: Path, release: Release, tree: Path) -> None:
    """The copy is what is checked, so nothing changes between the look and the use."""
    other = BuildError(
        f"{source} is not the source of CPython {release.full} as it was released (a file was"
        " changed, added or deleted; a build leaves some too); unpack the archive anew"
    )
    if not (source / "Makefile.pre.in").is_file():  # before somebody's whole disk is copied
        raise other
    try:
        shutil.copytree(source, tree, symlinks=True)
    except shutil.Error as error:  # a list of what was not copied, each with its reason
        path, _, reason = error.args[0][0]
        raise BuildError(f"{path} cannot be copied: {reason}") from error
    if tree_digest(tree) != release.tree_sha256:
        shutil.rmtree(tree)
        raise other


def _check_member(member: tarfile.TarInfo, top: str) -> None:
    parts = PurePosixPath(member.name).parts
    if not (member.isreg() or member.isdir()) or parts[:1] != (top,) or ".." in parts:
        raise BuildError(f"the archive holds {member.name!r}, which is no file below {top}")


def _check_archive(path: Path, release: Release, name: str | None = None) -> None:
    try:
        found = sha256(path)
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}") from error
    if found != release.sha256:
        raise BuildError(
            f"{name or path.name} is not the source of CPython {release.full}: its SHA-256 is"
            f" {found[:16]}… and not {release.sha256[:16]}…"
        )


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _download(release: Release, to: Path, progress: Progress) -> None:
    try:
        with (
            urllib.request.urlopen(release.url, timeout=PATIENCE_S) as answer,
            to.open("wb") as file,
        ):
            progress.expect(int(answer.headers.get("Content-Length", 0)))
            while block := answer.read(BLOCK):
                file.write(block)
                progress.advance(len(block))
    except urllib.error.URLError as error:
        raise BuildError(f"{release.url}: {error.reason}") from error
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise BuildError(f"{release.url}: {error or type(error).__name__}") from error


def _from_debian(release: Release, to: Path, progress: Progress) -> None:
    """Upstream's own archive lies in Debian's source package. The machine's apt is asked for its
    mirrors only: lists and sources are private, so no right and no change of it is needed.
    """
    del progress  # apt says how far it is to a terminal alone
    suite, package = release.debian
    mirrors = dict.fromkeys(
        _apt("indextargets", "--no-release-info", "--format", "$(REPO_URI)").split()
    )
    if not mirrors:
        raise BuildError("this machine's apt has no mirror")
    answers = []
    for mirror in mirrors:
        with tempfile.TemporaryDirectory(prefix="gilscope-apt-") as name:
            folder = Path(name)
            (folder / "lists" / "partial").mkdir(parents=True)
            # Not trust: the checksum is what counts, and this suite's keys may not be here.
            (folder / "sources").write_text(f"deb-src [trusted=yes] {mirror} {suite} main\n")
            private = (
                f"-oDir::Etc::SourceList={folder}/sources",
                "-oDir::Etc::SourceParts=/dev/null",
                f"-oDir::State::Lists={folder}/lists",
                f"-oDir::Cache={folder}",
                f"-oAcquire::http::Timeout={PATIENCE_S}",
                f"-oAcquire::https::Timeout={PATIENCE_S}",
                "-oAPT::Sandbox::User=root",  # the folder is this user's
                "-oAPT::Update::Error-Mode=any",  # a list that was not fetched is an error
                "-qq",
            )
            try:
                _apt(*private, "update")
                _apt(*private, "source", "--download-only", package, folder=folder)
                (found,) = folder.glob(f"{package}_{release.full}.orig.tar.*[!c]")
            except BuildError as error:
                answers.append(str(error))
            except ValueError:
                answers.append(f"{suite}'s {package} is not {release.full} any more")
            else:
                shutil.copyfile(found, to)
                return
    raise BuildError("; ".join(dict.fromkeys(answers)))


def _apt(*arguments: str, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(
            ["apt-get", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
        )
    except FileNotFoundError:
        raise BuildError("there is no apt-get here") from None
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if line.startswith(("E:", "Err:"))]
        raise BuildError(
            " ".join(said[:1]).partition(":")[2].strip() or "apt-get failed"
        ) from error
    return done.stdout
