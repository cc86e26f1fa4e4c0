"""A pipeline of queues with more workers than work.

The parsers wait for the reader, and the writer waits for the parsers, nearly all of the time.
That is how it is meant: they wait for work, not for a lock that somebody keeps.
"""

# /// verdict
# kind = "nothing"
# ///

import queue
import threading
import time

PARSERS = 4


def read(end, lines):
    number = 0
    while time.monotonic() < end:
        time.sleep(0.01)
        lines.put(f"{number};{number * 7};ok")
        number += 1
    for _ in range(PARSERS):
        lines.put(None)


def parse(lines, rows):
    while (line := lines.get()) is not None:
        rows.put(line.split(";"))
    rows.put(None)


def write(rows):
    left, written = PARSERS, 0
    while left:
        if rows.get() is None:
            left -= 1
        else:
            written += 1
    return written


def main():
    lines, rows = queue.Queue(maxsize=50), queue.Queue()
    end = time.monotonic() + 1.2
    threads = [threading.Thread(target=read, args=(end, lines), name="reader")]
    threads += [
        threading.Thread(target=parse, args=(lines, rows), name=f"parse-{i}")
        for i in range(PARSERS)
    ]
    threads.append(threading.Thread(target=write, args=(rows,), name="writer"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
