"""A thread polls beside one that computes for so many seconds. Argument: seconds."""

import sys
import threading
import time


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def poll() -> None:
    while spinner.is_alive():
        time.sleep(0.001)


spinner = threading.Thread(target=spin, args=(float(sys.argv[1]),), name="spinner")
poller = threading.Thread(target=poll, name="poller")
spinner.start()
poller.start()
spinner.join()
poller.join()
