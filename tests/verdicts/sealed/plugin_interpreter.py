"""A plugin in an interpreter of its own, with its own GIL, beside a user interface.

The plugin computes in Python all the time. The interface wakes every 5 ms and is never late for
it: each has its GIL.
"""

# /// verdict
# kind = "nothing"
# python = "3.13"
# ///

import threading
import time

import _interpreters

PLUGIN = """
import time
end = time.monotonic() + 1.1
primes = []
number = 2
while time.monotonic() < end:
    if all(number % p for p in primes[:40]):
        primes.append(number)
    number += 1
"""


def plugin():
    interpreter = _interpreters.create()
    _interpreters.exec(interpreter, PLUGIN)
    _interpreters.destroy(interpreter)


def interface(end):
    while time.monotonic() < end:
        time.sleep(0.005)


def main():
    end = time.monotonic() + 1.2
    threads = [
        threading.Thread(target=plugin, name="plugin"),
        threading.Thread(target=interface, args=(end,), name="ui"),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
