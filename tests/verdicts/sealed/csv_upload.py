"""Uploaded tables are read with list(csv.reader(...)), all rows in one call.

Reader and text are both C, so no bytecode runs between two rows, and the GIL stays where it is for
the whole table. The health check of the same server stands still for that long.
"""

# /// verdict
# kind = "c-call"
# thread = "health"
# value_ms = [300, 1800]
# ///

import csv
import io
import threading
import time


def read_table(text):
    return list(csv.reader(io.StringIO(text)))  # CULPRIT


def uploads(text, end):
    while time.monotonic() < end:
        read_table(text)
        time.sleep(0.02)


def health(end):
    while time.monotonic() < end:
        time.sleep(0.01)


def main():
    text = "".join(f'{i},"customer {i}",{i * 3},paid,2024-01-01,north\n' for i in range(60_000))
    end = time.monotonic() + 1.3
    threads = [
        threading.Thread(target=uploads, args=(text, end), name="uploads"),
        threading.Thread(target=health, args=(end,), name="health"),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
