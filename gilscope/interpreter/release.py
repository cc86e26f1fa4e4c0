"""What Python Plus is made of: CPython's pinned source, patches, and switches to build with."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from gilscope.errors import UsageError

PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Release:
    """A version of CPython whose source is pinned by checksums, wherever it comes from."""

    version: str  # "3.13", as the user names it
    full: str  # "3.13.5"
    sha256: str  # of the archive
    tree_sha256: str  # of the unpacked tree's listing, see source.tree_digest; "": not pinned
    url: str  # upstream's archive
    debian: tuple[str, str]  # suite and source package with the same archive
    build_bytes: int  # what a build takes, tree and objects
    install_bytes: int
    patches: Path  # folder of the series
    probe: Path  # folder of the probe's sources, compiled into the interpreter
    sync: Path | None = None  # folder with the native types' C, beside the probe's

    @property
    def name(self) -> str:
        """The name of the archive without its ending, and of its only folder."""
        return f"Python-{self.full}"

    @property
    def archive(self) -> str:
        """The archive's own name."""
        return f"{self.name}.tar.xz"

    def with_source(self, full: str, sha256: str) -> Release:
        """The same series on another archive of this version, which `sha256` pins.

        Raises UsageError for another version, and for what is no checksum.
        """
        if not re.fullmatch(rf"{re.escape(self.version)}\.\d{{1,3}}", full, re.ASCII):
            raise UsageError(
                f"the source is of CPython {full}; the patches are for {self.version}.x"
            )
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise UsageError("--sha256 takes 64 hexadecimal digits, as python.org shows them")
        if sha256 == self.sha256:
            return self
        url = f"https://www.python.org/ftp/python/{full}/Python-{full}.tar.xz"
        return replace(self, full=full, sha256=sha256, tree_sha256="", url=url)

    @property
    def patch_level(self) -> int:
        """5 of 3.13.5."""
        return int(self.full.rpartition(".")[2])


@dataclass(frozen=True)
class Variant:
    """Switches to build with. The empty name is the interpreter that users want."""

    name: str
    about: str
    patched: bool = True
    probe: bool = True  # whether it has one, if it is patched
    configure: tuple[str, ...] = ()
    optimize: str = "-DNDEBUG -fwrapv -O2 -Wall"  # OPT of CPython's Makefile
    macros: str = ""  # those of gilscope/probe/switches.h


RELEASES = {
    "3.13": Release(
        version="3.13",
        full="3.13.5",
        sha256="93e583f243454e6e9e4588ca2c2662206ad961659863277afcdb96801647d640",
        tree_sha256="a6ea01f99c4336cca520c7abe9af6c6f7120bd5dbfb37e3fb6a0b4b67c0c32ac",
        url="https://www.python.org/ftp/python/3.13.5/Python-3.13.5.tar.xz",
        debian=("trixie", "python3.13"),
        build_bytes=400 << 20,
        install_bytes=400 << 20,
        patches=PACKAGE / "interpreter" / "patches" / "3.13",
        probe=PACKAGE / "probe",
        sync=PACKAGE / "sync",
    )
}

VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("", "Python Plus"),
        Variant("stock", "the same source and switches without a patch, to compare with", False),
        Variant(
            "debug",
            "with CPython's assertions",
            configure=("--with-pydebug",),
            optimize="-fwrapv -Og -g -Wall",
        ),
        Variant(
            "off",
            "patched, with every aspect left out by macro: what the patches themselves cost",
            probe=False,
            macros="-DGILSCOPE_PERFORMANCE_TESTING=1",
        ),
        Variant(
            "gil",
            "the probe in the GIL and nothing else",
            macros="-DGILSCOPE_PERFORMANCE_TESTING=2",
        ),
        Variant(
            "rules",
            "each rule of io-priority can be left out, to measure what it wins",
            macros="-DGILSCOPE_TEST_RULES",
        ),
    )
}


def release(version: str) -> Release:
    """Raises UsageError for a version that has no series of patches."""
    try:
        return RELEASES[version]
    except KeyError:
        raise UsageError(f"no Python Plus {version}; there is {', '.join(RELEASES)}") from None


def variant(name: str) -> Variant:
    """Raises UsageError for a variant that does not exist."""
    try:
        return VARIANTS[name]
    except KeyError:
        names = ", ".join(filter(None, VARIANTS))
        raise UsageError(f"no variant {name!r}; there is {names}") from None
