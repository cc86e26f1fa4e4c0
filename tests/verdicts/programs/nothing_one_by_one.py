"""Threads that compute one after the other, each joined before the next begins."""

# /// verdict
# kind = "nothing"
# ///

import threading


def compute():
    sum(i * i for i in range(1_000_000))


for n in range(6):
    thread = threading.Thread(target=compute, name=f"compute-{n}")
    thread.start()
    thread.join()
