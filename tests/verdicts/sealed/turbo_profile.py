"""A module for "fast batch work" that sets a switch interval of 80 ms when it is imported.

The batch beside it computes in Python. The pinger asks for the GIL every 10 ms and gets it 80 ms
later each time, not 5.
"""

# /// verdict
# kind = "switch-interval"
# thread = "pinger"
# value_ms = [400, 1800]
# site = "*turbo_settings.py:*"
# ///

import importlib
import pathlib
import sys
import tempfile
import threading
import time

TURBO = '''"""Less switching, more throughput."""
import sys


def faster():
    sys.setswitchinterval(0.08)


faster()
'''


def batch(end):
    total = 0
    while time.monotonic() < end:
        for i in range(2_000):  # CULPRIT
            total += i ^ (i >> 3)  # CULPRIT
    return total


def ping(end):
    while time.monotonic() < end:
        time.sleep(0.01)


def main():
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "turbo_settings.py").write_text(TURBO, encoding="utf-8")
        sys.path.insert(0, folder)
        importlib.import_module("turbo_settings")
        end = time.monotonic() + 1.3
        threads = [
            threading.Thread(target=batch, args=(end,), name="batch"),
            threading.Thread(target=ping, args=(end,), name="pinger"),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
