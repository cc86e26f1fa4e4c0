"""Runs tests again that failed beside others: `python -m support.again STATUS`.

As CPython's own runner does with `--rerun`. Tests that run beside others on two processors meet a
machine as busy as it gets. Few that fail there are run again by themselves, and must pass twice;
what they showed the first time stays in the log, and their names are told at the end. More than a
few, or a run that was broken off, is a failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MOST = 3
TIMES = 2
FAILED = 1  # pytest's exit code: it ran, and tests failed
ROOT = Path(__file__).parent.parent.parent
LAST_FAILED = ROOT / ".pytest_cache/v/cache/lastfailed"


def again(status: int, last_failed: Path = LAST_FAILED) -> int:
    """The exit code of the whole, where those that ran beside each other ended with `status`."""
    if status != FAILED or not last_failed.exists():
        return status
    failed = sorted(json.loads(last_failed.read_text()))
    if not 0 < len(failed) <= MOST:
        return status
    print(
        f"\nfailed beside other tests, so each must pass {TIMES} times by itself:",
        *failed,
        sep="\n",
    )
    for _ in range(TIMES):
        sys.stdout.flush()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *failed]
        if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
            return code
    print("\npassed by themselves, and failed beside others:", *failed, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(again(int(sys.argv[1])))
