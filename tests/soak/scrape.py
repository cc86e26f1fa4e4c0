"""Counters that are scraped ten times a second for half an hour: does memory stay flat?

    python tests/soak/scrape.py [--minutes M] [--page FILE.md]

`gilscope metrics --listen` starts a program with threads that stay, threads that come and go, and a
child now and then. The resident memory of both is looked at, and no counter may fall.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PER_S = 10
ROWS = 24
PROGRAM = """
import os, sys, threading, time
over = time.monotonic() + float(sys.argv[1])
def naps():
    while time.monotonic() < over:
        time.sleep(0.005)
        sum(range(2000))
for i in range(4):
    threading.Thread(target=naps, name=f"naps-{i}").start()
turn = 0
while time.monotonic() < over:
    turn += 1
    thread = threading.Thread(target=sum, args=(range(20_000),), name=f"short-{turn}")
    thread.start()
    thread.join()
    if turn % 50 == 0:
        pid = os.fork()
        if pid == 0:
            sum(range(20_000))
            os._exit(0)
        os.waitpid(pid, 0)
    time.sleep(0.02)
"""
PATIENCE_S = 60


def resident_mib(pid: int) -> float:
    """All that a process has in memory."""
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(n) for n in re.findall(r"^Rss\w+:\s+(\d+)", text, re.M)) / 1024


def scraped(address: str) -> dict[str, float]:
    """Counters by name and labels."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=PATIENCE_S) as answer:
        lines = answer.read().decode().splitlines()
    rows = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows if "_total" in name}


def main() -> int:
    """Exit code 1: a counter fell, or memory grew by more than a tenth and 1 MiB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        program = Path(name) / "program.py"
        program.write_text(PROGRAM)
        command = [sys.executable, "-m", "gilscope", "metrics", "--listen", "0", "--"]
        command += [sys.executable, str(program), f"{60 * args.minutes:g}"]
        metrics = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert metrics.stderr
        address = re.search(r"http://[\d.:]+", metrics.stderr.readline())
        assert address
        samples, fell, scrapes = list[tuple[float, float, float, float]](), set[str](), 0
        before: dict[str, float] = {}
        begin = time.monotonic()
        while metrics.poll() is None:
            time.sleep(1 / PER_S)
            try:
                now, began = scraped(address[0]), time.monotonic()
                children = Path(f"/proc/{metrics.pid}/task/{metrics.pid}/children").read_text()
                memory = [resident_mib(int(p)) for p in (metrics.pid, children.split()[0])]
            except (OSError, IndexError):  # it ends
                continue
            scrapes += 1
            fell |= {key for key in before.keys() & now.keys() if now[key] < before[key]}
            before = now
            samples.append((began - begin, memory[0], memory[1], float(len(now))))
    settled = samples[len(samples) // 4 :]
    grew = [max(s[i] for s in settled[-20:]) - settled[0][i] for i in (1, 2)]
    text = [
        "# Counters that are scraped",
        "",
        f"`make soak-scrape`, {time.strftime('%Y-%m-%d')}: {scrapes:,} scrapes in "
        f"{args.minutes:g} minutes, of a program whose threads and children come and go. Counters "
        f"that fell: {len(fell)}.",
        f"Behind the first quarter gilscope grew by {grew[0]:.1f} MiB, the program by "
        f"{grew[1]:.1f} MiB.",
        "",
        "| s | gilscope, MiB | the program, MiB | counters |",
        "|---|---|---|---|",
        *(
            f"| {s[0]:.0f} | {s[1]:.1f} | {s[2]:.1f} | {s[3]:.0f} |"
            for s in samples[:: max(1, len(samples) // ROWS)]
        ),
        "",
    ]
    if args.page:
        args.page.write_text("\n".join(text))
    print("\n".join(text))
    return bool(fell) or any(
        more > 1 + settled[0][i] / 10 for i, more in zip((1, 2), grew, strict=True)
    )


if __name__ == "__main__":
    sys.exit(main())
