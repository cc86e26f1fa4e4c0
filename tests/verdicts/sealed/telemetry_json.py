"""Twenty-four samplers beside an exporter that turns one large tree into JSON, over and over.

json.dumps runs in C and keeps the GIL for the whole tree. The samplers want a sample every 8 ms
and get one when the exporter has finished a document.
"""

# /// verdict
# kind = "c-call"
# thread = "sampler-*"
# value_ms = [300, 2500]
# ///

import json
import threading
import time

SAMPLERS = 24


def tree():
    return {
        f"host-{host}": [
            {"cpu": i * 0.37, "disk": i, "tags": ["a", "b", str(i)]} for i in range(60)
        ]
        for host in range(400)
    }


def export(end):
    measured = tree()
    while time.monotonic() < end:
        json.dumps(measured)  # CULPRIT


def sample(end, samples):
    while time.monotonic() < end:
        time.sleep(0.008)
        samples.append(time.monotonic())


def main():
    end = time.monotonic() + 1.3
    threads = [
        threading.Thread(target=sample, args=(end, []), name=f"sampler-{i:02}")
        for i in range(SAMPLERS)
    ]
    threads.append(threading.Thread(target=export, args=(end,), name="exporter"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
