"""Stalls planted at random times in long recordings that keep only the last so much: is each whole
in a snapshot, with the right culprit?

    python tests/soak/stalls.py [--runs N] [--minutes M] [--page docs/results/stalls.md]

The runs go side by side. In each one thread of IO wakes 50 times a second, and at one moment
another thread keeps the GIL in a call into C. `--dump-when` writes the snapshot.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import sys, threading, time
begin = time.monotonic()
minutes, at, size = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])

def io():
    while time.monotonic() < begin + 60 * minutes:
        time.sleep(0.02)

def stall():
    time.sleep(at)
    started = time.monotonic()
    sum(range(size))
    print(time.monotonic() - started)

threads = [threading.Thread(target=io, name="io"), threading.Thread(target=stall, name="stall")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
SIZE = 20_000_000  # about 300 ms
LONGER_MS = 150
KEEP_S = 60


def start(folder: Path, number: int, minutes: float, at: float) -> subprocess.Popen[str]:
    """One recording."""
    program = folder / "stall.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "gilscope", "record", "--no-summary", "--keep", str(KEEP_S)]
    command += ["--max-size", "16M", "--dump-when", f"io_wait={LONGER_MS}ms", "--dump-every", "1"]
    command += ["-o", str(folder / f"{number}.pftrace"), "--", sys.executable, str(program)]
    command += [str(minutes), str(at), str(SIZE)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def verdict(folder: Path, number: int, stall_s: float) -> str:
    """Whether a snapshot has the whole stall, with its culprit."""
    for path in sorted(folder.glob(f"{number}.*.pftrace")):
        command = [sys.executable, "-m", "gilscope", "summary", "--json", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        for process in json.loads(done.stdout)["processes"]:
            threads = {thread["id"]: thread for thread in process["threads"]}
            holds = [t["hold_ns"]["max"] for t in threads.values() if t["name"] == "stall"]
            # Who waits comes up to some sleeps after the stall began: the hold tells its length.
            whole = bool(holds) and max(holds) / 1e9 > stall_s - 0.01
            for row in process["blame"]:
                if row["reason"] != "held" or row["holder"] not in threads:
                    continue
                names = threads[row["waiter"]]["name"], threads[row["holder"]]["name"]
                site = row["holder_site"] or {}
                if whole and names == ("io", "stall") and site.get("function") == "stall":
                    return "whole"
    return "missed"


def main() -> int:
    """Exit code 1: a stall was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.strftime("%Y-%m-%d")
        times = [random.uniform(0.05, 0.95) * 60 * args.minutes for _ in range(args.runs)]
        runs = [start(folder, i, args.minutes, at) for i, at in enumerate(times)]
        for number, (run, at) in enumerate(zip(runs, times, strict=True)):
            out, error = run.communicate()
            stall_s = float(out) if run.returncode == 0 else 0.0
            result = verdict(folder, number, stall_s) if stall_s else error.strip()
            snapshots = len(list(folder.glob(f"{number}.*.pftrace")))
            rows.append(
                f"| {number + 1} | {at:.1f} | {stall_s * 1e3:.0f} | {snapshots} | {result} |"
            )
            print(rows[-1], flush=True)
    whole = sum(row.endswith("| whole |") for row in rows)
    text = [
        "# Stalls in a flight recorder",
        "",
        f"`make soak-stalls`, {began}: {args.runs} recordings of {args.minutes:g} minutes side by "
        f"side, with `--keep {KEEP_S} --max-size 16M --dump-when io_wait={LONGER_MS}ms`.",
        f"In {whole} of {len(rows)} a snapshot has the whole stall and names its thread and "
        "function.",
        "",
        "| run | planted at, s | stall, ms | snapshots | the stall is |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
    if args.page:
        args.page.write_text("\n".join(text))
    print("\n".join(text[2:4]))
    return whole < len(rows)


if __name__ == "__main__":
    sys.exit(main())
