"""A task of a pool waits for another task of the same pool, which has no worker left.

Both workers sit in result(), the tasks that they wait for stay in the queue: nobody ever gets on.
A watchdog ends the program.
"""

# /// verdict
# kind = ["hang", "deadlock"]
# thread = ["MainThread", "pool_*"]
# ///

import concurrent.futures
import os
import threading
import time


def thumbnail(number):
    return number * 2


def page(pool, number):
    time.sleep(0.05)
    return pool.submit(thumbnail, number).result()


def give_up():
    time.sleep(2.2)
    os._exit(0)


def main():
    threading.Thread(target=give_up, name="watchdog", daemon=True).start()
    with concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="pool") as pool:
        pages = [pool.submit(page, pool, number) for number in range(2)]
        for done in pages:
            done.result()


if __name__ == "__main__":
    main()
