"""What a release consists of: one sdist, and of it a wheel for each architecture.

    python release/wheels.py DIST [--arch ARCH]…

The C compiler is Zig's, from PyPI: it links against the oldest glibc that manylinux knows, whatever
this machine has, and for the other architecture, too. The same commit makes the same bytes: times
are SOURCE_DATE_EPOCH, or the last commit's.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARCHITECTURES = ("x86_64", "aarch64")
GLIBC = (2, 17)

_BUILD = """
import sys, setuptools.build_meta as backend
kind, out, *options = sys.argv[1:]
settings = {"--build-option": options} if options else None
print(getattr(backend, f"build_{kind}")(out, settings), file=sys.stderr)
"""


def main() -> int:
    """Print the paths of what was made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dist", metavar="DIST", type=Path, help="the folder to put them into")
    parser.add_argument("--arch", action="append", choices=ARCHITECTURES, help="only this one")
    args = parser.parse_args()
    args.dist.mkdir(parents=True, exist_ok=True)
    made = sdist(ROOT, args.dist.resolve())
    print(made)
    for arch in args.arch or ARCHITECTURES:
        print(wheel(made, args.dist.resolve(), arch))
    return 0


def epoch(tree: Path) -> int:
    """Seconds since 1970 that stand in what is made."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    return int(_output(["git", "log", "-1", "--format=%ct"], tree))


def sdist(tree: Path, out: Path) -> Path:
    """Of the files that git knows in `tree`."""
    seconds = epoch(tree)
    listed = _output(["git", "ls-files", "-z"], tree)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in filter(None, listed.split("\0")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((tree / name).read_bytes())
            (copy / name).chmod((tree / name).stat().st_mode)
        made = out / _backend("sdist", copy, out, {})
    _settle(made, seconds)
    return made


def wheel(sdist: Path, out: Path, arch: str) -> Path:
    """Of what is in the sdist, so that who builds it from there has the same."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(sdist) as archive:
        seconds = max(member.mtime for member in archive.getmembers())
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder, **safely)  # type: ignore[arg-type]
        (tree,) = Path(folder).iterdir()
        environment = {**compiler(arch), "SOURCE_DATE_EPOCH": str(int(seconds))}
        options = ["--plat-name", f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{arch}"]
        return out / _backend("wheel", tree, out, environment, options)


def compiler(arch: str) -> dict[str, str]:
    """What setuptools takes from the environment to compile for `arch` and that glibc."""
    target = f"{arch}-linux-gnu.{'.'.join(map(str, GLIBC))}"
    compile_ = f"{sys.executable} -m ziglang cc -target {target}"
    return {
        "CC": compile_,
        # Without debugging information: that of the C library's own parts names the folder.
        "LDSHARED": f"{compile_} -shared -Wl,--strip-debug",
        "AR": f"{sys.executable} -m ziglang ar",
        "_PYTHON_HOST_PLATFORM": f"linux-{arch}",
        "GILSCOPE_BUILD_STRICT": "1",
    }


def _backend(
    kind: str,
    tree: Path,
    out: Path,
    environment: Mapping[str, str],
    options: list[str] | None = None,
) -> str:
    """Run setuptools in the tree; the name of what it made."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _BUILD, kind, out, *(options or [])],
        cwd=tree,
        env={**os.environ, **environment},
        umask=0o022,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nthe {kind} could not be built (see above)")
    return done.stderr.splitlines()[-1]


def _settle(sdist: Path, seconds: int) -> None:
    """Write it again, with nothing in it of whoever built it and when."""
    plain = io.BytesIO()
    with (
        tarfile.open(sdist) as old,
        tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid = seconds, 0, 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    with sdist.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=seconds) as packed:
        packed.write(plain.getvalue())


def _output(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
