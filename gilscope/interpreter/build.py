"""The steps of a build: source, configure, compile, install, check.

Actors: this process, the tools that it runs one after the other, and maybe a second build of the
same interpreter. A lock file keeps the second out; its descriptor is inherited by every tool, so
it is held until the last of them has ended, however gilscope itself ends.

What makes a build resumable is what it leaves: a source tree is complete when `source.stamp` holds
the digest of what it was made from, a configured tree when `configured.stamp` holds its switches,
and make knows the rest. The interpreter is installed and checked beside its place and takes it by
a rename, so that nothing half-installed is ever found there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path
from tempfile import TemporaryFile

from gilscope.errors import BuildError
from gilscope.interpreter import check, patches, source, toolchain
from gilscope.interpreter.places import Manifest, Place, python
from gilscope.interpreter.progress import Lines, Progress
from gilscope.interpreter.release import Release, Variant
from gilscope.interpreter.tools import Tools

# When one of these changes, objects that are there may have been compiled with other flags.
CONFIGURATION = ("configure", "Makefile.pre.in", "pyconfig.h.in", "Modules/Setup*", "Modules/make*")


def build(release: Release, variant: Variant, given: Path | None, progress: Progress) -> Place:
    """Build and install unless what is installed is made of the same; returns where.

    Raises BuildError; nothing is installed then, and what was installed before stays.
    """
    job = _Job.of(release, variant, progress)
    place = job.place
    if job.is_done():
        return place
    toolchain.check_tools()
    try:
        _make_folders(place)
        with _lock(place, progress) as descriptor:
            if not job.is_done():  # by the build that held the lock
                _check_room(release, place)
                job.run(given, Tools(place.log, descriptor, progress))
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise BuildError(f"{error.strerror}{where}; nothing was installed") from error
    finally:
        progress.close()
    return place


def remove(release: Release, variant: Variant, progress: Progress) -> bool:
    """Delete it, with what is left of its build; returns whether it was there."""
    place = Place.of(release, variant)
    if not place.lock.exists() and not place.prefix.exists():  # nothing was ever built
        return False
    try:
        place.lock.parent.mkdir(parents=True, exist_ok=True)  # a cache may have been emptied
        with _lock(place, progress):
            return place.remove()
    except OSError as error:
        raise BuildError(f"{error.filename} cannot be removed ({error.strerror})") from error
    finally:
        progress.close()


def is_up_to_date(release: Release, variant: Variant) -> bool:
    """Whether what is installed is made of the present patches, probe and switches, and of the
    pinned source or a newer one."""
    return _Job.of(newest(release, variant), variant, Lines()).is_done()


def newest(pinned: Release, variant: Variant) -> Release:
    """The pinned release, or the later patch level that is installed: nobody who has security
    fixes loses them by building anew."""
    manifest = Manifest.read(Place.of(pinned, variant).prefix)
    if manifest is None or not manifest.source:
        return pinned
    here = pinned.with_source(manifest.version, manifest.source)
    return here if here.patch_level > pinned.patch_level else pinned


@dataclass(frozen=True)
class _Job:
    release: Release
    variant: Variant
    place: Place
    series: list[patches.Patch]
    progress: Progress

    @classmethod
    def of(cls, release: Release, variant: Variant, progress: Progress) -> _Job:
        series = patches.series(release.patches) if variant.patched else []
        return cls(release, variant, Place.of(release, variant), series, progress)

    def is_done(self) -> bool:
        """Whether what is installed is made of what this job would use."""
        manifest = Manifest.read(self.place.prefix)
        return (
            manifest is not None
            and manifest.key == self.key(self.release.probe)
            and self.place.python.exists()
        )

    @property
    def tree_key(self) -> str:
        """Of what the source tree is made from."""
        lines = (line for patch in self.series for line in patch.lines)
        return _digest(self.release.sha256, *lines)

    @property
    def switches(self) -> list[str]:
        """What configure is called with."""
        return [
            f"--prefix={self.place.prefix}",
            *self.variant.configure,
            f"OPT={self.variant.optimize}",
            *toolchain.switches(),
        ]

    @property
    def make(self) -> list[str]:
        """How make is called; CPython's own Makefile does not know these variables."""
        probe = self.place.work / "probe"
        return ["make", f"GILSCOPE_PROBE={probe}", f"GILSCOPE_FLAGS={self.variant.macros}"]

    def key(self, probe: Path) -> str:
        """Of everything that the interpreter is made from, with the probe in this folder."""
        digest = source.tree_digest(probe) if self.series else ""
        types = [f"{path.name} {source.sha256(path)}" for path in self._types] if digest else []
        return _digest(self.tree_key, digest, *types, *self.switches, self.variant.macros)

    @property
    def _types(self) -> list[Path]:
        """The native types' C files; the folder has Python of the package's, too."""
        return sorted(self.release.sync.glob("*.[ch]")) if self.release.sync else []

    def run(self, given: Path | None, tools: Tools) -> None:
        """All steps that are not done yet."""
        self._bring_source(given)
        self._configure(tools)
        compiled = self.place.work / "build"
        self.progress.step("compile")
        self.progress.expect(tools.count_compilations(self.make, compiled))
        tools.run([*self.make, f"-j{len(os.sched_getaffinity(0))}"], compiled)
        self.progress.step("install")
        shutil.rmtree(self.place.stage, ignore_errors=True)
        tools.run([*self.make, "install", f"DESTDIR={self.place.stage}"], compiled)
        # CPython finds its library beside its executable, so it runs from here as it will there.
        staged = self.place.stage / self.place.prefix.relative_to("/")
        self.progress.step("check")
        check.verify(
            python(staged), self.release.full, probe=bool(self.series) and self.variant.probe
        )
        names = [patch.name for patch in self.series]
        # Of the copy: gilscope's own files may have changed meanwhile.
        key = self.key(self.place.work / "probe")
        Manifest(self.release.full, self.variant.name, key, names, self.release.sha256).write(
            staged
        )
        _take_place(staged, self.place)
        self.progress.finish()

    def _bring_source(self, given: Path | None) -> None:
        work = self.place.work
        stamp = work / "source.stamp"
        if given is not None or _read(stamp) != self.tree_key:
            found = source.bring(self.release, given, self.place.archives, self.progress)
            self.progress.step("unpack and patch")
            fresh = work / "source.new"
            shutil.rmtree(fresh, ignore_errors=True)
            source.unpack(found, self.release, fresh)
            patches.apply(self.series, fresh)
            stamp.unlink(missing_ok=True)
            _synchronise(fresh, work / "source")
            stamp.write_text(self.tree_key)
        if self.series:
            # A copy, so that a file's time tells make when its content changed, as in the tree.
            fresh = work / "probe.new"
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(self.release.probe, fresh)
            _synchronise(fresh, work / "probe")
            fresh = work / "sync.new"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            for path in self._types:
                shutil.copy2(path, fresh)
            _synchronise(fresh, work / "sync")

    def _configure(self, tools: Tools) -> None:
        """Make a configured build folder, unless it is there."""
        tree, compiled = self.place.work / "source", self.place.work / "build"
        stamp = self.place.work / "configured.stamp"
        inputs = [path for pattern in CONFIGURATION for path in sorted(tree.glob(pattern))]
        # The macros too: no object of make's depends on its variables.
        key = _digest(
            *self.switches, self.variant.macros, *(path.read_bytes().hex() for path in inputs)
        )
        if _read(stamp) != key:
            stamp.unlink(missing_ok=True)
            shutil.rmtree(compiled, ignore_errors=True)
            compiled.mkdir()
            self.progress.step("configure")
            tools.run([tree / "configure", *self.switches], compiled)
            stamp.write_text(key)
        if missing := toolchain.missing_libraries(compiled / "Makefile"):
            self.progress.say(toolchain.describe(missing))


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()


def _read(stamp: Path) -> str:
    return stamp.read_text() if stamp.is_file() else ""


def _make_folders(place: Place) -> None:
    """Raises BuildError where the user may not write, before any work is done."""
    for folder in (place.prefix, place.work):
        # Neither CPython's Makefile nor the first line of a script can have a space in a path.
        if any(character.isspace() for character in str(folder)):
            raise BuildError(
                f"an interpreter cannot be built in {str(folder)!r}, which has a space in it;"
                " name others: XDG_DATA_HOME, XDG_CACHE_HOME"
            )
    for folder, variable in (
        (place.prefix.parent, "XDG_DATA_HOME"),
        (place.work, "XDG_CACHE_HOME"),
    ):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise BuildError(
                f"{folder} cannot be written to ({error.strerror}); {variable} names another place"
            ) from error


def _check_room(release: Release, place: Place) -> None:
    """Raises BuildError when a new build cannot fit."""
    needs = {place.prefix.parent: release.install_bytes}
    if not (place.work / "build").is_dir():
        needs[place.work] = release.build_bytes
    for folder in needs:
        device = folder.stat().st_dev
        everything = sum(n for other, n in needs.items() if other.stat().st_dev == device)
        if shutil.disk_usage(folder).free < everything:
            raise BuildError(
                f"the disk of {folder} is too full: a build needs {everything >> 20:,} MiB there"
            )


@contextmanager
def _lock(place: Place, progress: Progress) -> Iterator[int]:
    """Keep other builds of this interpreter out; yields the descriptor that holds the lock."""
    with place.lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.step(f"another build of {place.label} runs; waiting for its end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _synchronise(fresh: Path, tree: Path) -> None:
    """Give `tree` the files of `fresh`, which goes. A file that is the same is not touched, one
    that is not gets the present time: so make compiles what changed, whatever the times in an
    archive are.
    """
    if not tree.is_dir():
        fresh.rename(tree)
        return
    for path in tree.rglob("*"):
        if path.is_file() and not (fresh / path.relative_to(tree)).is_file():
            path.unlink()
    for path in fresh.rglob("*"):
        target = tree / path.relative_to(fresh)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif not target.is_file() or not cmp(path, target, shallow=False):
            os.utime(path)
            path.replace(target)
    shutil.rmtree(fresh)


def _take_place(staged: Path, place: Place) -> None:
    shutil.rmtree(place.replaced, ignore_errors=True)
    if place.prefix.exists():
        place.prefix.rename(place.replaced)
    staged.rename(place.prefix)
    for folder in (place.stage, place.replaced):
        shutil.rmtree(folder, ignore_errors=True)
