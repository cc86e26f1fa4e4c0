"""Six threads with one SQLite connection, and a lock around it.

A query takes some 20 ms, in C and without the GIL: they could run beside each other. They stand in
a queue before the lock.
"""

# /// verdict
# kind = "lock"
# thread = "query-*"
# value_ms = [300, 1800]
# ///

import sqlite3
import threading
import time

NUMBERS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?)"
QUERY = f"{NUMBERS} SELECT sum(x) FROM n"


def ask(connection, lock, end):
    while time.monotonic() < end:
        with lock:  # CULPRIT
            connection.execute(QUERY, (60_000,)).fetchone()  # CULPRIT
        time.sleep(0.005)


def main():
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    lock = threading.Lock()
    end = time.monotonic() + 1.2
    threads = [
        threading.Thread(target=ask, args=(connection, lock, end), name=f"query-{i}")
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection.close()


if __name__ == "__main__":
    main()
