"""The hosts: what to start, for each interpreter."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
RECORD = ("record", "--no-summary", "--quiet", "-o", "trace.pftrace", "--")
WAYS = {"record": RECORD, "io-priority": ("run", "--policy", "io-priority", "--")}
TIMEOUT_S = 120


@dataclass(frozen=True)
class Host:
    """One program and its arguments."""

    name: str
    command: tuple[str, ...]
    before: tuple[str, ...] = ()  # what starts it: a namespace
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What can be seen of a run from outside."""

    code: int
    out: str
    err: str


# WHERE KIND HEAD NUMBER CODE, see programs/queues.c.
QUEUES = [
    ("heap", "0", "0x41", "1", "here"),
    ("heap", "0", "gil", "1", "here"),
    ("page", "0", "0", "2", "library"),
    ("static", "0", "gil", "3", "here"),
    ("stack", "2", "gil", "1", "library"),
]


def all_queues() -> list[tuple[str, ...]]:
    """All mutations of the queue, not only those that differ in one thing."""
    heads = ("0", "0x41", "0xfe", "gil")
    return [
        (where, kind, "0" if where == "page" else head, number, code)
        for where, kind, head, number, code in itertools.product(
            ("heap", "static", "stack", "page"), "012", heads, "13", ("here", "library")
        )
        if where != "page" or head == "0"
    ]


@cache
def _configuration(python: Path) -> dict[str, str]:
    names = ("INCLUDEPY", "LIBDIR", "LDLIBRARY", "LIBPL", "LIBRARY", "LIBS", "LINKFORSHARED")
    question = (
        "import json, sysconfig as s; "
        f"print(json.dumps({{name: str(s.get_config_var(name) or '') for name in {names!r}}}))"
    )
    answer = subprocess.run([python, "-c", question], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(answer.stdout)
    return found


def libraries(python: Path) -> list[str]:
    """How programs can be linked with this interpreter's library here: static, shared."""
    its = _configuration(python)
    if not Path(its["INCLUDEPY"], "Python.h").is_file():
        return []
    ways = []
    if Path(its["LIBPL"], its["LIBRARY"]).is_file():
        ways.append("static")
    if ".so" in its["LDLIBRARY"] and Path(its["LIBDIR"], its["LDLIBRARY"]).exists():
        ways.append("shared")
    return ways


def build(python: Path, name: str, library: str, folder: Path) -> Path:
    """A C program with this interpreter inside; made once in the folder."""
    program = folder / f"{name}-{library}"
    if program.exists():
        return program
    its = _configuration(python)
    if library == "static":
        links = ["-no-pie", f"{its['LIBPL']}/{its['LIBRARY']}"]  # Debian's is made for no other
    else:
        links = [f"{its['LIBDIR']}/{its['LDLIBRARY']}", f"-Wl,-rpath,{its['LIBDIR']}"]
    extra = [str(elsewhere(folder))] if name == "queues" else []
    flags = ["-O1", "-g", "-pthread", "-w", f"-I{its['INCLUDEPY']}", f"-Wl,-rpath,{folder}"]
    exported = [word for word in its["LINKFORSHARED"].split() if word != "-Wl,-Bsymbolic-functions"]
    command = ["gcc", *flags, *exported, f"{PROGRAMS / name}.c", *extra, *links]
    made = program.with_suffix(".part")
    subprocess.run(
        [*command, *its["LIBS"].split(), "-ldl", "-lm", "-lutil", "-o", made], check=True
    )
    made.rename(program)
    return program


def shared(name: str, folder: Path) -> Path:
    """A library of the programs' folder."""
    made = folder / f"{name}.so"
    if not made.exists():
        part = made.with_suffix(".part")
        command = ["gcc", "-O1", "-g", "-w", "-shared", "-fPIC", "-pthread"]
        subprocess.run([*command, f"{PROGRAMS / name}.c", "-o", part, "-ldl"], check=True)
        part.rename(made)
    return made


def elsewhere(folder: Path) -> Path:
    """The queue's code in a library."""
    return shared("queue_elsewhere", folder)


def program_of_32_bits(folder: Path) -> Path:
    """A program that cannot load the probe."""
    program = folder / "hello32"
    if not program.exists():
        source = folder / "hello32.c"
        source.write_text("int main(void) { return 7; }\n", encoding="ascii")
        subprocess.run(["gcc", "-m32", source, "-o", program], check=True)
    return program


def python_hosts(python: Path, folder: Path, threads: int = 300) -> Iterator[Host]:
    """Those that any Python runs. Namespaces are for root alone."""

    def script(name: str, *arguments: str) -> tuple[str, ...]:
        # 3.12 warns of a fork beside a thread, which one that was joined may still seem to be.
        quiet = ("-W", "ignore::DeprecationWarning")
        return (str(python), *quiet, str(PROGRAMS / f"{name}.py"), *arguments)

    small = str(program_of_32_bits(folder))
    yield Host("many threads", script("many_threads", str(threads)))
    yield Host("names with code", script("names_with_code"))
    yield Host("big environment", script("big_environment", "4000", "32768", small, "/bin/true"))
    if os.geteuid() == 0:
        yield Host("pid namespaces", script("pid_namespace"))
        yield Host(
            "time namespace",
            script("time_namespace"),
            ("unshare", "-T", "--monotonic", "100000", "--boottime", "100000", "-f"),
        )


def embedding_hosts(
    python: Path, library: str, folder: Path, queues: list[tuple[str, ...]]
) -> Iterator[Host]:
    """Those with this interpreter inside."""
    home = (("PYTHONHOME", str(_home(python))),)

    def host(name: str, program: str, *arguments: str) -> Host:
        path = build(python, program, library, folder)
        return Host(name, (str(path), *arguments), variables=home)

    for mutation in queues:
        yield host(f"queue {' '.join(mutation)}", "queues", *mutation)
    yield host("threads with the GIL", "threads_with_gil")
    yield host("own stack", "own_stack")
    slow = str(shared("slow_constructor", folder))
    again = folder / "slow_again.so"
    if not again.exists():
        again.write_bytes(Path(slow).read_bytes())
    yield host("slow constructor", "loads", slow, str(again))


@cache
def _home(python: Path) -> Path:
    answer = subprocess.run(
        [python, "-c", "import sys; print(sys.base_prefix)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return Path(answer.stdout.strip())


def run(host: Host, way: tuple[str, ...], folder: Path) -> Outcome:
    """The outcome of a host started by gilscope with these words, or alone without any."""
    gilscope = (sys.executable, "-m", "gilscope", *way) if way else ()
    variables: Mapping[str, str] = {**os.environ, **dict(host.variables)} if not way else os.environ
    own = tuple(f"{name}={value}" for name, value in host.variables)
    started = (*host.before, *(("env", *own) if own and way else ()), *host.command)
    try:
        done = subprocess.run(
            [*gilscope, *started],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        return Outcome(124, _text(expired.stdout), _text(expired.stderr) + "did not end")
    return Outcome(done.returncode, _plain(done.stdout), _plain(done.stderr))


def _text(data: bytes | str | None) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""


def _plain(text: str) -> str:
    """Without what differs from run to run, pids."""
    return re.sub(r"\bpid([ =])\d{2,}", r"pid\1…", text)
