"""A cache of the class, with one RLock, that computes the missing value while it has the lock.

Each view asks for another price, so they could all miss at once; but who misses computes for 20
ms under the lock, and the other seven views wait for the lock, not for the GIL.
"""

# /// verdict
# kind = "lock"
# thread = "view-*"
# value_ms = [400, 3000]
# ///

import threading
import time


class Prices:
    lock = threading.RLock()
    known = {}  # noqa: RUF012 - it is the class's on purpose

    @classmethod
    def get(cls, product):
        with cls.lock:  # CULPRIT
            if len(cls.known) > 50:  # CULPRIT
                cls.known.clear()  # CULPRIT
            if product not in cls.known:  # CULPRIT
                cls.known[product] = cls.compute(product)  # CULPRIT
            return cls.known[product]  # CULPRIT

    @classmethod
    def compute(cls, product):
        price = product
        until = time.thread_time() + 0.02
        while time.thread_time() < until:  # CULPRIT
            price = (price * 31 + 7) % 1_000_003  # CULPRIT
        return price


def view(number, end):
    product = number * 1_000
    while time.monotonic() < end:
        product += 1
        Prices.get(product)
        time.sleep(0.005)


def main():
    end = time.monotonic() + 1.2
    threads = [threading.Thread(target=view, args=(i, end), name=f"view-{i}") for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
