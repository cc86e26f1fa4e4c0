"""A thread imports a module whose body computes in Python; a heartbeat waits for that."""

# /// verdict
# kind = "import"
# thread = "heartbeat"
# value_ms = [200, 1400]
# ///

import sys
import tempfile
import threading
import time
from pathlib import Path

SOURCE = "table = {}\nfor n in range(4_000_000):\n    table[n % 977] = n * n\n"


def load():
    import large_table  # noqa: F401


def heartbeat(done):
    while not done.is_set():
        time.sleep(0.001)


with tempfile.TemporaryDirectory() as folder:
    Path(folder, "large_table.py").write_text(SOURCE)
    sys.path.insert(0, folder)
    done = threading.Event()
    beats = threading.Thread(target=heartbeat, args=(done,), name="heartbeat")
    beats.start()
    loader = threading.Thread(target=load, name="loader")
    loader.start()
    loader.join()
    done.set()
    beats.join()
