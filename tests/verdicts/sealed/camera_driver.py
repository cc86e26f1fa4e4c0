"""A camera's C library that is called without giving the GIL away.

ctypes.PyDLL keeps the GIL, and the library sleeps 6 ms in each call until the picture is there.
It uses no processor, and the motor's thread, which wants to run every 4 ms, waits for it all the
same.
"""

# /// verdict
# kind = "c-call"
# thread = "motor"
# value_ms = [120, 1300]
# ///

import ctypes
import threading
import time

LIBRARY = ctypes.PyDLL(None)


def next_picture():
    LIBRARY.usleep(6_000)  # CULPRIT


def grab(end):
    while time.monotonic() < end:
        next_picture()
        time.sleep(0.001)


def steer(end):
    while time.monotonic() < end:
        time.sleep(0.004)


def main():
    end = time.monotonic() + 1.2
    threads = [
        threading.Thread(target=grab, args=(end,), name="grab"),
        threading.Thread(target=steer, args=(end,), name="motor"),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
