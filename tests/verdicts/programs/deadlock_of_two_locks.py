"""Two threads take two locks in opposite order. A watchdog ends the program."""

# /// verdict
# kind = ["deadlock", "hang"]
# thread = ["debit", "credit"]
# ///

import os
import threading
import time

first, second = threading.Lock(), threading.Lock()


def transfer(one, other):
    with one:
        time.sleep(0.1)
        with other:
            pass


for name, locks in (("debit", (first, second)), ("credit", (second, first))):
    threading.Thread(target=transfer, args=locks, name=name, daemon=True).start()
time.sleep(1.6)
os._exit(0)
