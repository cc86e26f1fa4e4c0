"""A multiprocessing pool that gets a large list of dictionaries with every task.

The pool was meant to free the program from the GIL. But the pool's own thread pickles each list,
tens of milliseconds in one call into C, and the user interface of the same process waits.
"""

# /// verdict
# kind = "pickling"
# thread = "ui"
# value_ms = [80, 3500]
# ///

import multiprocessing
import threading
import time


def brightest(frames):
    return max(frame["light"] for frame in frames)


def tasks(frames, end):
    while time.monotonic() < end:
        yield frames


def interface(end):
    while time.monotonic() < end:
        time.sleep(0.01)


def main():
    frames = [
        {"number": i, "light": i % 251, "name": f"frame {i}", "box": (i, i + 1)}
        for i in range(40_000)
    ]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        end = time.monotonic() + 1.3
        ui = threading.Thread(target=interface, args=(end,), name="ui")
        ui.start()
        for _ in pool.imap_unordered(brightest, tasks(frames, end)):
            pass
        ui.join()


if __name__ == "__main__":
    main()
