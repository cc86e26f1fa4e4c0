"""Four processes count in a dictionary of a multiprocessing manager.

Each addition is a question to the manager's process and an answer: slow, but nobody waits for a
GIL, and no thread has anything that another one of its process wants.
"""

# /// verdict
# kind = "nothing"
# ///

import multiprocessing
import time


def count(totals, number, end):
    while time.monotonic() < end:
        totals[number] = totals[number] + 1
        time.sleep(0.01)


def main():
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        totals = manager.dict(dict.fromkeys(range(4), 0))
        end = time.monotonic() + 1.2
        workers = [context.Process(target=count, args=(totals, i, end)) for i in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


if __name__ == "__main__":
    main()
