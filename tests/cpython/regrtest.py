"""Runs one of CPython's own test modules under one interpreter, plain or recorded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

GLUE = Path(__file__).parent / "glue"
RESOURCES = "cpu,network,walltime"
# A module that hangs shows where (by faulthandler) and ends; what even that cannot end is killed.
HANGS_S, TIMEOUT_S = 600, 1800


@dataclass(frozen=True)
class Run:
    """One run of a test module: what became of each case, and of the whole."""

    exit_code: int | None  # of the test process; None: it did not end within TIMEOUT_S
    cases: dict[str, str]  # "test.test_x.Class.test_y" -> "passed" | "skipped" | "failed"
    seconds: float
    events: int  # in the trace of a recorded run
    problems: list[str]  # what is wrong with that trace

    @property
    def failed(self) -> set[str]:
        """The cases that failed."""
        return {case for case, verdict in self.cases.items() if verdict == "failed"}


def available(python: Path, module: str) -> bool:
    """Whether this installation has the module, itself or by glue over what it has."""
    return _has(python, module) or (
        (GLUE / f"{_glued(module)}.py").is_file() and _has(python, "_test_multiprocessing")
    )


def _glued(module: str) -> str:
    # By its own name regrtest would look for it in the installation.
    return module.replace("test_", "test_glued_", 1)


def run(
    python: Path,
    module: str,
    files: Path,
    left_out: Sequence[str] = (),
    *,
    recorded: bool,
    resources: str = RESOURCES,
    variables: Mapping[str, str] | None = None,
) -> Run:
    """Run a module without some cases; leaves `files` with endings .log, .xml, .pftrace.

    `variables` come on top of the environment, but for a policy, which is for recorded runs: alone
    even Python Plus runs without one.
    """
    xml, trace = files.with_suffix(".xml"), files.with_suffix(".pftrace")
    environment = {**os.environ, **(variables or {})}
    if not recorded:
        environment.pop("GILSCOPE_POLICY", None)
    command = [
        str(python),
        "-m",
        "test",
        f"-u={resources}",
        "-W",
        "--junit-xml",
        str(xml),
        "--tempdir",  # not in the build's tree: how long a path is decides some cases
        tempfile.gettempdir(),
    ]
    if not _has(python, module):
        command += ["--testdir", str(GLUE)]
        module = _glued(module)
    for case in left_out:
        command += ["-i", case]
    command.append(module)
    if recorded:
        command = [
            *(sys.executable, "-m", "gilscope", "record", "--no-summary", "-o", str(trace), "--"),
            *command,
        ]
    begin = time.monotonic()
    with open(files.with_suffix(".log"), "wb") as out:
        # A session of its own: whatever hangs can be ended as a whole.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env=environment,
        )
        try:
            code: int | None = process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
    seconds = time.monotonic() - begin
    cases = dict(_cases(xml)) if xml.is_file() else {}
    events, problems = _check_trace(trace) if recorded else (0, [])
    return Run(code, cases, seconds, events, problems)


def _has(python: Path, module: str) -> bool:
    # Those of a package of tests have their whole names: test.test_asyncio.test_events.
    name = module if module.startswith("test.") else f"test.{module}"
    find = "import sys, importlib.util as u; print(bool(u.find_spec(sys.argv[1])))"
    answer = subprocess.run(
        [python, "-c", find, name], capture_output=True, text=True, check=True, timeout=60
    )
    return answer.stdout.strip() == "True"


def _cases(xml: Path) -> Iterator[tuple[str, str]]:
    for case in ElementTree.parse(xml).getroot().iter("testcase"):
        name = case.get("name")
        if not name:  # regrtest leaves a case of which a subtest failed without one: no result
            continue
        bad = case.find("failure") is not None or case.find("error") is not None
        skipped = case.find("skipped") is not None
        yield name, "failed" if bad else "skipped" if skipped else "passed"


def _check_trace(trace: Path) -> tuple[int, list[str]]:
    """A trace opens, its story is possible (reading checks that), and nothing was lost."""
    import gilscope  # noqa: PLC0415 - numpy, and only for recorded runs
    from gilscope.errors import GilscopeError  # noqa: PLC0415

    try:
        read = gilscope.read(trace)
    except (OSError, GilscopeError) as error:
        return 0, [f"the trace cannot be read: {error}"]
    problems = []
    if read.metadata.stopped:
        problems.append(f"the recording stopped: {read.metadata.stopped}")
    if lost := read.metadata.lost_events + int(read.gaps["missing"].sum()):
        problems.append(f"{lost} events were lost")
    if read.totals.events == 0:
        problems.append("the trace holds no event")
    return read.totals.events, problems
