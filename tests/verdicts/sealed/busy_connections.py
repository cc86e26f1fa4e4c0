"""Forty connections of one server, all alike.

Each waits for a message and answers with a millisecond or two of Python. Together they want more
than one GIL. No thread is the culprit, and no order among them makes it better.
"""

# /// verdict
# kind = "io-waits"
# thread = "conn-*"
# value_ms = [500, 1700]
# ///

import threading
import time

CONNECTIONS = 40


def answer():
    return sum(i * i % 7 for i in range(30_000))


def serve(end):
    while time.monotonic() < end:
        time.sleep(0.01)
        answer()


def main():
    end = time.monotonic() + 1.3
    threads = [
        threading.Thread(target=serve, args=(end,), name=f"conn-{i:02}") for i in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
