"""CPython's whole own test suite in Python Plus and in the same build without a patch.

    cd tests && python -m cpython.suite [--jobs N] [--keep DIR] [--table FILE] [MODULE]…

A patch that is not used must not be noticed, so every case must end the same way; what differs is
run again, as `compare` does. Results lie in DIR/results.jsonl, one module a line; with the same DIR
and the same two interpreters, what is there is not run again, so that hours of work can be done in
parts. Network and costly resources are off. Exit code 1 when a difference is not in expected.txt.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from cpython.compare import Comparison, Side, compare_sides, hangs, unexplained
from support import interpreters

from gilscope.interpreter.places import Manifest, Place
from gilscope.interpreter.release import RELEASES, VARIANTS

STOCK = "stock"
VERDICTS = ("passed", "skipped", "failed")


def sides() -> tuple[Side, Side]:
    """Raises LookupError that tells how to get a missing one."""
    stock, plus = interpreters.in_build_tree(STOCK), interpreters.in_build_tree("")
    return Side(STOCK, stock, resources="none"), Side("plus", plus, resources="none")


def modules(python: Path) -> list[str]:
    """All test modules, in regrtest's order."""
    command = [python, "-m", "test", "--list-tests"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.split()


def built_from() -> str:
    """What both interpreters are made of: results of others do not count."""
    manifests = (
        Manifest.read(Place.of(RELEASES["3.13"], VARIANTS[name]).prefix) for name in (STOCK, "")
    )
    return " ".join(manifest.key for manifest in manifests if manifest)


def read_results(path: Path, made_of: str) -> dict[str, Comparison]:
    """By module; none where there is no file yet."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines]
    return {row["module"]: Comparison(**row) for row in rows if row.pop("made_of", None) == made_of}


def table(results: Sequence[Comparison]) -> str:
    """Markdown: a row a module, then what differs."""
    head = ["passed", "skipped", "failed"]
    lines = [
        "| module | " + " | ".join(f"{side} {v}" for side in (STOCK, "plus") for v in head) + " |",
        "|---|" + "---|" * 6,
    ]
    lines += [
        f"| {result.module} | "
        + " | ".join(str(count.get(v, 0)) for count in result.counts for v in VERDICTS)
        + " |"
        for result in results
    ]
    totals = [sum(r.counts[side].get(v, 0) for r in results) for side in (0, 1) for v in VERDICTS]
    lines.append("| **all** | " + " | ".join(f"{total:,}" for total in totals) + " |")
    lines += ["", "Cases that never ended the same way on both sides:", ""]
    different = [
        f"- {result.module}, {case}: {verdicts}"
        for result in results
        for case, verdicts in result.differences.items()
    ]
    lines += different or ["- none"]
    flaky = [f"- {result.module}: {', '.join(result.flaky)}" for result in results if result.flaky]
    lines += ["", "Cases that differed in the first run and agreed in a later one:", ""]
    return "\n".join([*lines, *(flaky or ["- none"]), ""])


BEGIN = "<!-- written by tests/cpython/suite.py, from here to the end -->\n"


def write_table(path: Path, results: Sequence[Comparison]) -> None:
    """Put the table at the end of a document, in the place of an older one."""
    text = path.read_text(encoding="utf-8").partition(BEGIN)[0] if path.is_file() else ""
    path.write_text(f"{text}{BEGIN}\n{table(results)}", encoding="utf-8")


def main() -> int:
    """Returns 1 when anything differs that is not expected."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="all by default")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="modules at a time")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="logs and results, to go on from")
    parser.add_argument("--table", metavar="FILE", type=Path, help="write the results there too")
    args = parser.parse_args()
    both = sides()
    known = modules(both[0].python)
    if unknown := set(args.modules) - set(known):
        parser.error(f"not among CPython's tests: {' '.join(sorted(unknown))}")
    folder = args.keep or Path(tempfile.mkdtemp(prefix="gilscope-suite-"))
    folder.mkdir(parents=True, exist_ok=True)
    made_of = built_from()
    results = read_results(folder / "results.jsonl", made_of)
    wanted = [module for module in args.modules or known if module not in results]
    with (
        (folder / "results.jsonl").open("a", encoding="utf-8") as file,
        ThreadPoolExecutor(args.jobs) as pool,
    ):
        jobs = [
            pool.submit(compare_sides, both, module, folder / module, hangs(STOCK, module))
            for module in wanted
        ]
        for job in as_completed(jobs):
            result = job.result()
            results[result.module] = result
            print(json.dumps({"made_of": made_of, **asdict(result)}), file=file, flush=True)
            print(
                f"{result.module}: {result.counts[0]} {STOCK}, {result.counts[1]} plus", flush=True
            )
            for line in unexplained("plus", result):
                print(f"  {line}", flush=True)
    ordered = [results[module] for module in known if module in results]
    if args.table:
        write_table(args.table, ordered)
    bad = sum(len(unexplained("plus", result)) for result in ordered)
    print(f"{len(ordered)} of {len(known)} modules: {bad or 'no'} differences")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
