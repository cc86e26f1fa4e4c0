"""Two transfers that take the locks of two accounts in opposite order.

Each has its first lock and waits for the other's. There is a timeout of 0.8 s, after which the
first gives up, and the second gets on: a deadlock that ends.
"""

# /// verdict
# kind = ["deadlock", "lock"]
# thread = "transfer-*"
# value_ms = [400, 1400]
# ///

import threading
import time


def transfer(first, second, both_have_one, patience):
    with first:  # CULPRIT
        both_have_one.wait()  # CULPRIT
        got = second.acquire(timeout=patience)  # CULPRIT
        if got:  # CULPRIT
            time.sleep(0.01)  # CULPRIT
            second.release()  # CULPRIT
    return got


def main():
    ours, theirs = threading.Lock(), threading.Lock()
    both_have_one = threading.Barrier(2)
    time.sleep(0.2)
    threads = [
        threading.Thread(
            target=transfer, args=(ours, theirs, both_have_one, 0.8), name="transfer-out"
        ),
        threading.Thread(
            target=transfer, args=(theirs, ours, both_have_one, 1.5), name="transfer-in"
        ),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
