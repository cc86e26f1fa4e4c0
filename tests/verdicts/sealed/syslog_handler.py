"""Twelve request threads that log through one handler with a slow target.

logging takes the handler's lock around emit(), and the target needs 15 ms for a line. Nobody
computes, the GIL is free; the requests stand in a queue before the lock.
"""

# /// verdict
# kind = "lock"
# thread = "req-*"
# value_ms = [500, 1600]
# ///

import logging
import threading
import time


class SlowTarget(logging.Handler):
    def emit(self, record):
        self.format(record)
        time.sleep(0.015)  # CULPRIT


def request(log, end):
    while time.monotonic() < end:
        time.sleep(0.01)
        log.info("GET /basket")  # CULPRIT


def main():
    log = logging.getLogger("shop")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(SlowTarget())
    end = time.monotonic() + 1.2
    threads = [
        threading.Thread(target=request, args=(log, end), name=f"req-{i}") for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
