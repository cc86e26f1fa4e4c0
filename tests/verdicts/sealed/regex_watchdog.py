"""A heartbeat that misses its beats while the main thread checks one form field.

The pattern has a repeat inside a repeat, and the field does not match: the engine tries every way
to cut it into pieces, for about 400 ms, and keeps the GIL for all of it. Before and after that
nobody waits.
"""

# /// verdict
# kind = "freeze"
# thread = "heartbeat"
# value_ms = [100, 3500]
# ///

import re
import threading
import time

NAME = re.compile(r"^(?:\w+\s?)+$")
WANTED = 0.4  # seconds of processor that the bad field shall cost


def bad_field():
    """A field that takes about WANTED: each letter more doubles the work."""
    letters = 10
    while True:
        field = "x" * letters + "!"
        start = time.thread_time()
        NAME.match(field)
        taken = time.thread_time() - start
        if taken > WANTED / 48:
            break
        letters += 1
    while taken < WANTED * 0.7:
        letters += 1
        taken *= 2
    return "x" * letters + "!"


def valid(field):
    return NAME.match(field) is not None  # CULPRIT


def beat(end):
    while time.monotonic() < end:
        time.sleep(0.025)


def main():
    field = bad_field()
    end = time.monotonic() + 1.2
    heartbeat = threading.Thread(target=beat, args=(end,), name="heartbeat")
    heartbeat.start()
    time.sleep(0.4)
    valid("Ada Lovelace")
    valid(field)
    heartbeat.join()


if __name__ == "__main__":
    main()
