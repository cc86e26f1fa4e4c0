"""CPython's own tests of threads on gilscope's locks.

    cd tests && python -m cpython.locks [--python 3.11]… [--locks KIND]… [MODULE]…

`replaced`: in CPython 3.10 to 3.13 and in Python Plus, with threading's locks replaced by those of
gilscope.locks, in all that the tests start too. `native`: in Python Plus, where threading's
Condition is the native one. The cases that fail are exactly those of locks.txt, which says why: one
more is an error, one less too. Exit code 1 then.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cpython import regrtest
from cpython.compare import hangs
from cpython.regrtest import Run
from support import interpreters

ROOT = Path(__file__).parents[2]
KNOWN = Path(__file__).parent / "locks.txt"
MODULES = ("test_threading", "test_queue", "test_concurrent_futures")
REPLACED, NATIVE = "replaced", "native"
ROUNDS = 3  # of a case that fails unexpectedly, or does not fail as expected


def versions(kind: str) -> list[str]:
    """The interpreters that have these locks and came with CPython's tests."""
    if kind == NATIVE:
        return [interpreters.PLUS]
    return [name for name in interpreters.names() if name not in ("3.9", interpreters.DEBIAN)]


def table() -> list[list[str]]:
    """The rows of locks.txt: locks, version, module, case, reason."""
    lines = KNOWN.read_text(encoding="utf-8").splitlines()
    return [line.split(maxsplit=4) for line in lines if line and line[0] != "#"]


def known(kind: str, version: str, module: str) -> dict[str, str]:
    """The cases that fail there, and why."""
    return {
        case: reason
        for of, number, name, case, reason in table()
        if (of, name) == (kind, module) and number in (version, "*")
    }


def variables(kind: str, version: str) -> dict[str, str]:
    """The environment that gives the tests these locks."""
    if kind == NATIVE:
        return {}
    here = Path(__file__).parent / REPLACED
    told = {"PYTHONPATH": f"{here}:{ROOT}"}
    if version != interpreters.PLUS:
        told["LD_PRELOAD"] = str(ROOT / "gilscope" / "_probe.so")
    return told


def differences(kind: str, version: str, module: str, folder: Path) -> list[str]:
    """Run a module; lines for what differs from what is known. Raises LookupError.

    What differs is run again, and counts when it never ended as it should; and with threading's own
    locks: what fails there too is the installation's.
    """
    python, expected = interpreters.path(version), known(kind, version, module)
    folder = folder / kind / version
    folder.mkdir(parents=True, exist_ok=True)

    def run(name: str, environment: Mapping[str, str]) -> Run:
        return regrtest.run(
            python,
            module,
            folder / f"{module}-{name}",
            hangs(version, module),
            recorded=False,
            resources="cpu,network",  # all that 3.10 knows
            variables=environment,
        )

    told = _differing(run("1", variables(kind, version)), expected)
    if told and kind == REPLACED:
        for case in run("alone", {}).failed:
            told.pop(case, None)
    for number in range(2, ROUNDS + 1):
        if told:
            now = _differing(run(str(number), variables(kind, version)), expected)
            told = {case: how for case, how in told.items() if case in now}
    return [f"{kind} {version} {module}: {case} {how}" for case, how in sorted(told.items())]


def _differing(run: Run, expected: Mapping[str, str]) -> dict[str, str]:
    told = dict.fromkeys(run.failed - expected.keys(), "fails")
    told |= dict.fromkeys(expected.keys() - run.failed, "does not fail")
    if run.exit_code is None or not run.cases or (run.exit_code != 0) != bool(run.failed):
        told["(the module)"] = f"exit code {run.exit_code}, {len(run.cases)} verdicts"
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 when anything differs from what is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="all by default")
    parser.add_argument("--python", action="append", metavar="3.X", help="also: plus")
    parser.add_argument("--locks", action="append", choices=(NATIVE, REPLACED), metavar="KIND")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the logs here")
    args = parser.parse_args(arguments)
    if unknown := set(args.modules) - set(MODULES):
        parser.error(f"not among the modules that are run: {' '.join(sorted(unknown))}")
    bad = 0
    with tempfile.TemporaryDirectory(prefix="gilscope-locks-") as temporary:
        folder = args.keep or Path(temporary)
        for kind in args.locks or (NATIVE, REPLACED):
            for version in versions(kind):
                if args.python and version not in args.python:
                    continue
                for module in args.modules or MODULES:
                    if not regrtest.available(interpreters.path(version), module):
                        print(f"{kind} {version} {module}: not in this installation", flush=True)
                        continue
                    lines = differences(kind, version, module, folder)
                    bad += len(lines)
                    n_known = len(known(kind, version, module))
                    print(
                        f"{kind} {version} {module}: {n_known} known, {len(lines)} more", flush=True
                    )
                    for line in lines:
                        print(f"  {line}", flush=True)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
