"""Where interpreters lie (the user's data), and build trees and archives (the user's cache)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from gilscope.interpreter.release import Release, Variant

MANIFEST = "gilscope.json"


def _home(variable: str, default: str) -> Path:
    # The XDG rule: a relative path counts as not set.
    named = Path(os.environ.get(variable, ""))
    return (named if named.is_absolute() else Path.home() / default) / "gilscope"


def interpreters() -> Path:
    """Folder of the installed interpreters."""
    return _home("XDG_DATA_HOME", ".local/share") / "interpreters"


def builds() -> Path:
    """Folder of the build trees and of the archives that were brought."""
    return _home("XDG_CACHE_HOME", ".cache") / "interpreters"


@dataclass(frozen=True)
class Manifest:
    """Lies in an installed interpreter and says what it was built from."""

    version: str  # "3.13.5"
    variant: str
    key: str  # of source, patches, probe and switches together
    patches: list[str]  # names, in the order of the series
    source: str = ""  # the archive's SHA-256, since some are built of another than the pinned one

    def write(self, prefix: Path) -> None:
        """Leave it in the prefix."""
        text = json.dumps(asdict(self), indent=1)
        (prefix / MANIFEST).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def read(cls, prefix: Path) -> Manifest | None:
        """What lies in the prefix; None where nothing complete is installed."""
        try:
            return cls(**json.loads((prefix / MANIFEST).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Place:
    """The paths of one interpreter."""

    label: str  # "3.13" or "3.13-debug"
    prefix: Path  # where it is installed
    work: Path  # its build tree
    log: Path
    lock: Path
    archives: Path

    @classmethod
    def of(cls, release: Release, variant: Variant) -> Place:
        """The paths of a variant; nothing is made."""
        label = "-".join(filter(None, (release.version, variant.name)))
        work = builds() / label
        return cls(
            label=label,
            prefix=interpreters() / label,
            work=work,
            log=builds() / f"{label}.log",
            lock=builds() / f"{label}.lock",
            archives=builds(),
        )

    @property
    def python(self) -> Path:
        """The installed interpreter."""
        return python(self.prefix)

    @property
    def stage(self) -> Path:
        """Where it is installed first, on the same file system as the prefix."""
        return self.prefix.with_name(f".{self.label}.new")

    @property
    def replaced(self) -> Path:
        """Where an older one stands for the moment in which the new one takes its place."""
        return self.prefix.with_name(f".{self.label}.old")

    def remove(self) -> bool:
        """Delete interpreter, build tree and log; returns whether there was an interpreter."""
        found = self.prefix.is_dir()
        if found:  # by a rename first: a half-deleted prefix is never in its place
            shutil.rmtree(self.replaced, ignore_errors=True)
            self.prefix.rename(self.replaced)
        for path in (self.replaced, self.stage, self.work):
            if path.is_dir():
                shutil.rmtree(path)
        self.log.unlink(missing_ok=True)
        return found


def python(prefix: Path) -> Path:
    """The interpreter in a prefix."""
    return prefix / "bin" / "python3"


def installed() -> Iterator[tuple[Path, Manifest]]:
    """Prefix and manifest of every interpreter that is here, by name."""
    folder = interpreters()
    for prefix in sorted(folder.iterdir()) if folder.is_dir() else ():
        manifest = Manifest.read(prefix)
        if manifest and not prefix.name.startswith("."):
            yield prefix, manifest
