"""A thread wants a lock that another keeps while it sleeps. Argument: `shared` or `apart`."""

import sys
import threading
import time

kept = threading.Lock()
wanted = kept if sys.argv[1] == "shared" else threading.Lock()


def keep() -> None:
    for _ in range(20):
        with kept:
            time.sleep(0.01)
        time.sleep(0.001)


def want() -> None:
    for _ in range(20):
        with wanted:
            time.sleep(0.001)
        time.sleep(0.005)


threads = [
    threading.Thread(target=keep, name="keeper"),
    threading.Thread(target=want, name="wanter"),
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
