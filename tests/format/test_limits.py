"""What a hostile trace can cost and say: each command, on each of `support/hostile.py`."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support import hostile

from gilscope import cli
from gilscope.safe_text import escaped
from gilscope.trace import limits, stacks

# Of the processor, in units of what a known piece of work takes on this machine (0.05 to 0.2 s):
# the costliest of these files took 47 on a quiet one.
UNITS = 80
MEMORY_KIB = 200_000
# What the libraries of some extras take for any trace, in units and KiB: pyarrow; a JavaScript
# engine for charts. And `cut` writes what it has read: a trace of its own.
EXTRA = {"parquet": (40, 150_000), "report": (200, 200_000), "cut": (120, 0)}
REFUSED = 3

# gilscope, which the kernel ends past its share of the processor; then the most memory it had.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]), int(sys.argv[2])))
from gilscope.cli import main
code = main(sys.argv[3:])
with open("/proc/self/status") as status, open(sys.argv[1], "w") as peak:
    peak.write(status.read().partition("VmHWM:")[2].split()[0])
sys.exit(code)
"""


def commands(trace: Path, folder: Path) -> Iterator[list[str]]:
    """Every command line that reads one trace, with JSON and each of its formats.

    `view` does what `summary` does before it serves the file.
    """
    for name in cli.COMMANDS:
        parser = cli.Parser(prog=name)
        cli.load("gilscope.cli", name).add_arguments(parser)
        actions = parser._actions
        if name == "view" or not any(str(a.metavar).startswith("TRACE") for a in actions):
            continue
        flags = [[], *([a.option_strings[0]] for a in actions if a.dest == "json")]
        for action in actions:
            if action.required and action.choices:
                flags = [[action.option_strings[0], choice] for choice in action.choices]
        for flag in flags:
            yield [name, str(trace), *flag, *more(name, flag, folder)]


def more(name: str, flag: list[str], folder: Path) -> list[str]:
    """What that command cannot do without."""
    if name == "check":
        return ["--max", "waiting_share=1"]
    if name == "cut" or "parquet" in flag:
        return ["-o", str(folder / f"{name}.out")]
    return ["-o", str(folder / "report.html")] if name == "report" else []


@cache
def unit_s() -> float:
    """What that piece of work takes here."""

    def once() -> float:
        begun = time.process_time()
        sum(i * i for i in range(2_000_000))
        return time.process_time() - begun

    return min(once() for _ in range(3))


def run(command: list[str], folder: Path) -> tuple[int, bytes, bytes, int]:
    """Exit code, output, errors, and the most memory that it had, in KiB, less the EXTRA."""
    peak = folder / "peak"
    peak.write_text("0")
    extra, extra_kib = next((EXTRA[word] for word in command if word in EXTRA), (0, 0))
    limit_s = math.ceil((UNITS + extra) * unit_s())
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(peak), str(limit_s), *command],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    memory = max(int(peak.read_text()) - extra_kib, 1)
    return done.returncode, done.stdout, done.stderr, memory


def test_the_commands_that_read_a_trace_are_found(tmp_path: Path) -> None:
    names = {command[0] for command in commands(tmp_path / "t", tmp_path)}
    assert {"summary", "dump", "export"} <= names


@pytest.mark.alone
@pytest.mark.parametrize("name", hostile.COSTLY)
def test_a_crafted_file_costs_little(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    trace.write_bytes(hostile.COSTLY[name]())
    for command in commands(trace, tmp_path):
        code, _, errors, memory = run(command, tmp_path)
        broken_bound = command[0] == "check" and code == 1
        assert code in (0, REFUSED) or broken_bound, f"{command}: {code}, {errors!r}"
        assert memory < MEMORY_KIB, f"{command}: {memory} KiB, {errors!r}"
        if code == REFUSED:
            assert re.fullmatch(rb"gilscope: [^\n]+\n", errors), command


def test_text_of_a_trace_reaches_nobody_as_it_is(tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    trace.write_bytes(hostile.controls_everywhere())
    for command in commands(trace, tmp_path):
        code, out, errors, _ = run(command, tmp_path)
        assert code == 0, errors
        assert harmless(out), command
        assert harmless(errors), command
        if "report" in command:
            page = (tmp_path / "report.html").read_text()  # with the code of charts in it
            assert not any(mark in page for mark in "\x1b\x07\x9b\u202e\u2066")


def test_refusals_repeat_no_controls(tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    for data in hostile.controls_in_broken_metadata():
        trace.write_bytes(data)
        code, out, errors, _ = run(["summary", str(trace)], tmp_path)
        assert (code, out) == (REFUSED, b"")
        assert re.fullmatch(rb"gilscope: [^\n]+\n", errors)
        assert b"\\x1b" in errors
        assert harmless(errors)


def harmless(output: bytes) -> bool:
    """Whether nothing is in it but lines of what can be printed."""
    lines = output.decode().split("\n")  # raises where a lone surrogate got out
    return all(line.isprintable() for line in lines)


def test_escaped() -> None:
    assert escaped("plain größe 日本 e\u0301") == "plain größe 日本 e\u0301"
    assert escaped("\x1b[2J\n\u202e\ud800") == r"\x1b[2J\n\u202e\ud800"
    assert escaped("a" * 100, 9) == "aaaa…aaaa"
    assert len(escaped("\x1b" * 100, 9)) == 9


def test_limits_are_those_of_the_probe(root: Path) -> None:
    abi, source = (
        (root / "gilscope/probe" / name).read_text() for name in ("event_abi.h", "stacks.c")
    )
    assert int(re.search(r"#define GS_STACK_DEPTH +(\d+)", abi)[1]) == limits.STACK_DEPTH  # type: ignore[index]
    assert int(re.search(r"#define TEXT_BYTES +(\d+)", source)[1]) == limits.TEXT_BYTES  # type: ignore[index]
    assert int(re.search(r"#define GS_UNIT_BYTES +(\d+)", abi)[1]) == limits.COMMAND_BYTES  # type: ignore[index]


def test_rings_with_deeper_stacks_give_a_trace_that_can_be_read() -> None:
    rows = stacks.np.zeros(100, stacks.ROW_DTYPE)
    rows["parent"] = range(100)
    rows["line"] = range(100)
    rows["function_bytes"] = 5000
    table, ids = stacks.table(rows, memoryview(bytes(9000)))
    assert [len(stacks.path(table, int(leaf))) for leaf in ids[[0, 63, 64, 99]]] == [1, 64, 1, 36]
    assert {len(row.function) for row in table} == {limits.TEXT_BYTES}
