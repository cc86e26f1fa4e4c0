"""Eight threads log through one slow handler: they wait for the handler's lock."""

# /// verdict
# kind = "lock"
# thread = "worker-*"
# value_ms = [300, 1600]
# ci = true
# ///

import io
import logging
import threading
import time


class Slow(logging.StreamHandler):
    def emit(self, record):
        self.format(record)
        time.sleep(0.002)  # a disk, a pipe, a syslog that answers late


log = logging.getLogger("app")
log.setLevel(logging.INFO)
log.addHandler(Slow(io.StringIO()))
log.propagate = False


def handle(end):
    number = 0
    while time.monotonic() < end:
        number += 1
        log.info("request %d", number)
        sum(range(3_000))


end = time.monotonic() + 1.2
for n in range(8):
    threading.Thread(target=handle, args=(end,), name=f"worker-{n}").start()
