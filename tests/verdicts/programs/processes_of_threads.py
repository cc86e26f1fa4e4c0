"""Eight processes, each with three threads that compute: a crowd in every one."""

# /// verdict
# kind = ["crowd", "no-processor"]
# thread = "burn-*"
# value_ms = [100, 1500]
# ///

import multiprocessing
import threading
import time


def burn():
    end = time.monotonic() + 0.4
    while time.monotonic() < end:  # CULPRIT
        sum(i * i for i in range(300))  # CULPRIT


def child():
    threads = [threading.Thread(target=burn, name=f"burn-{n}") for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    processes = [multiprocessing.Process(target=child, name=f"child-{n}") for n in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
