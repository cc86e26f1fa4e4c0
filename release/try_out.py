"""Tries the wheels where users are: every Python, an old glibc, another processor.

    python release/try_out.py DIST FOLDER [PLACE]…

DIST has what wheels.py made. FOLDER keeps Debian's old releases and other things that take long to
make. Each line that is printed is one interpreter recorded by gilscope in one place.

Needs root on Debian, with debootstrap and qemu-user-static. Programs of the other processor run
by the kernel's binfmt_misc in a namespace of their own, so nothing of the machine is changed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gilscope.interpreter import source
from gilscope.interpreter.progress import Lines
from gilscope.interpreter.release import RELEASES

ROOT = Path(__file__).parents[1]

# Three threads that sleep 50 times each: 50 waits at least, all of them after IO. Each computes for
# longer than the millisecond from which on a line is noted.
PROGRAM = """\
import threading
import time


def worker():
    for _ in range(50):
        time.sleep(0.001)
        sum(range(200_000))


threads = [threading.Thread(target=worker, name=f"worker-{number}") for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""

_BINFMT = (
    r":gilscope-arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
    r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
    "/usr/bin/qemu-aarch64-static:F"
)
_ENTER = """
set -e
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf %s '{binfmt}' > /proc/sys/fs/binfmt_misc/register
mount --rbind /proc '{root}/proc'
mount --rbind /dev '{root}/dev'
mount --bind '{shared}' '{root}/mnt'
exec chroot '{root}' "$@"
"""


@dataclass(frozen=True)
class Place:
    """Somewhere to run: a root folder, None for this machine, and the interpreters there."""

    name: str
    arch: str
    pythons: dict[str, str]  # version: path as it is called there
    runs_gilscope: tuple[str, ...]  # versions
    root: Path | None = None

    def command(self, shared: Path) -> list[str]:
        """What stands before a command that is to run there; `shared` is then the folder /mnt."""
        if self.root is None:
            return []
        script = _ENTER.format(binfmt=_BINFMT, root=self.root, shared=shared)
        return ["unshare", "-Urm", "sh", "-c", script, "sh"]


def main() -> int:
    """1 where a row is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dist", metavar="DIST", type=Path)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("places", metavar="PLACE", nargs="*", help=", ".join(PLACES))
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in args.places or PLACES:
        place = PLACES[name](folder)
        for version in place.runs_gilscope:
            target = install(args.dist.resolve(), folder, place, version)
            for recorded in place.pythons:
                why = tried(place, version, recorded, target, folder)
                print(
                    f"{'FAILED' if why else 'ok    '} {place.name}, gilscope on {version},"
                    f" recorded {recorded}{why and f': {why}'}",
                    flush=True,
                )
                failed += bool(why)
    return int(bool(failed))


def install(dist: Path, folder: Path, place: Place, version: str) -> Path:
    """A folder with gilscope's wheel and what it needs, as pip chooses them for that Python."""
    target = folder / f"installed-{place.arch}-{version}"
    (wheel,) = dist.glob(f"gilscope-*_{place.arch}.whl")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "-qq"]
    if place.root is None:
        pip += ["--python", place.pythons[version], "install"]
    else:
        platforms = (f"manylinux{tag}_{place.arch}" for tag in ("_2_28", "_2_27", "_2_17", "2014"))
        pip += ["install", f"--python-version={version}"]
        pip += [f"--platform={platform}" for platform in platforms]
    _run([*pip, "--upgrade", "--only-binary=:all:", "--target", target, wheel])
    return target


def tried(place: Place, version: str, recorded: str, target: Path, folder: Path) -> str:
    """What is wrong; empty where nothing is."""
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    (shared / "program.py").write_text(PROGRAM)
    there = Path("/mnt") if place.root else shared
    if place.root:
        subprocess.run(["cp", "-r", "--reflink=auto", target, shared], check=True)
        target = there / target.name
    gilscope = [*place.command(shared), "env", f"PYTHONPATH={target}", place.pythons[version]]
    gilscope += ["-m", "gilscope"]
    trace = "recorded.pftrace"
    try:
        _run(
            [
                *gilscope,
                "record",
                "--quiet",
                "-o",
                there / trace,
                place.pythons[recorded],
                there / "program.py",
            ]
        )
        printed = _run([*gilscope, "summary", "--json", there / trace])
    except SystemExit as error:
        return str(error)
    return wrong(json.loads(printed), recorded)


def wrong(summary: dict[str, object], recorded: str) -> str:
    """What of the summary is not so."""
    (process,) = summary["processes"]  # type: ignore[misc]
    workers = [t for t in process["threads"] if t["name"].startswith("worker-")]
    if not process["python"].startswith(f"{recorded}."):
        return f"Python {process['python']}"
    if summary["lost_events"] or len(workers) != 3:
        return f"{summary['lost_events']} lost, {len(workers)} workers"
    if few := [t["acquires"] for t in workers if t["acquires"] < 50]:
        return f"a worker took the GIL {few[0]} times only"
    sites = [site["file"] for row in process["blame"] if (site := row["holder_site"])]
    if not any(file.endswith("program.py") for file in sites):
        return "no line of a holder is known"
    return ""


def here(folder: Path) -> Place:
    """Every Python that gilscope runs on, and what it records, on this machine."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support import debian_sid, interpreters  # noqa: PLC0415

    pythons = {}
    for version in ("3.9", "3.10", "3.11", "3.12", "3.13"):
        pythons[version] = str(interpreters.path(version))
    newest = debian_sid.fetch(folder / "newer")
    pythons |= dict(zip(debian_sid.VERSIONS, map(str, newest), strict=True))
    return Place("this machine", os.uname().machine, pythons, tuple(pythons)[1:])


def bullseye(folder: Path) -> Place:
    """Debian 11 (glibc 2.31), its own Python 3.9 and a 3.13 that is built there."""
    root = folder / "bullseye"
    python = root / "opt/python/bin/python3.13"
    if not python.exists():
        _debootstrap(root, "bullseye", "amd64", "python3,gcc,libc6-dev,make,zlib1g-dev,libffi-dev")
        archives = folder / "archives"
        archives.mkdir(exist_ok=True)
        archive = source.bring(RELEASES["3.13"], None, archives, Lines())
        _run(["tar", "-xf", archive, "-C", root / "opt"])
        build = "./configure -q --prefix=/opt/python OPT=-O1 && make -s && make -s altinstall"
        place = Place("", "x86_64", {}, (), root)
        _run(
            [
                *place.command(archives),
                "sh",
                "-c",
                f"cd /opt/{RELEASES['3.13'].name} && {{ {build}; }} > /opt/build.log 2>&1",
            ]
        )
    pythons = {"3.9": "/usr/bin/python3.9", "3.13": "/opt/python/bin/python3.13"}
    return Place("Debian 11", "x86_64", pythons, ("3.13",), root)


def _arm64(folder: Path, suite: str, name: str, version: str) -> Place:
    root = folder / f"arm64-{suite}"
    python = f"/usr/bin/python{version}"
    if not (root / python[1:]).exists():
        _debootstrap(root, suite, "arm64", f"python{version}", "--foreign")
        for package in sorted(root.glob("var/cache/apt/archives/*.deb")):
            _run(
                ["dpkg-deb", "--fsys-tarfile", package],
                ["tar", "-x", "--keep-directory-symlink", "-C", root],
            )
    for made in ("mnt", "proc", "dev", "tmp"):
        (root / made).mkdir(exist_ok=True)
    return Place(f"{name}, arm64 under qemu", "aarch64", {version: python}, (version,), root)


def arm64_bookworm(folder: Path) -> Place:
    """Debian 12 for arm64."""
    return _arm64(folder, "bookworm", "Debian 12", "3.11")


def arm64_trixie(folder: Path) -> Place:
    """Debian 13 for arm64."""
    return _arm64(folder, "trixie", "Debian 13", "3.13")


PLACES = {made.__name__: made for made in (here, bullseye, arm64_bookworm, arm64_trixie)}


def _debootstrap(root: Path, suite: str, arch: str, packages: str, *options: str) -> None:
    mirrors = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split()
    mirror = next(name for name in mirrors if "security" not in name)
    command = ["debootstrap", "--variant=minbase", f"--arch={arch}", f"--include={packages}"]
    _run([*command, *options, suite, root, mirror])


def _run(command: list[str | Path], into: list[str | Path] | None = None) -> str:
    # Not where a gilscope lies that is not the one to try.
    done = subprocess.run(command, cwd="/", capture_output=True, check=False)
    if into and not done.returncode:
        done = subprocess.run(into, input=done.stdout, capture_output=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        sys.exit(f"{' '.join(map(str, command[:3]))} …: {' / '.join(lines[-3:])}")
    return done.stdout.decode()


if __name__ == "__main__":
    sys.exit(main())
