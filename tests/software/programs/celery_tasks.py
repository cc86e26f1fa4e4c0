"""Celery tasks over a broker in a folder; `python celery_tasks.py FOLDER` sends and collects."""

import hashlib
import os
import sys
import threading
import time
from pathlib import Path

from celery import Celery

folder = Path(os.environ["CELERY_FOLDER"])
for name in ("queue", "control", "results"):
    (folder / name).mkdir(exist_ok=True)

app = Celery("celery_tasks", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.broker_transport_options = {
    "data_folder_in": folder / "queue",
    "data_folder_out": folder / "queue",
    "control_folder": folder / "control",
}
app.conf.broker_connection_retry_on_startup = True


@app.task
def work(number):
    digest = hashlib.sha256(b"%d" % number * 100_000).hexdigest()
    total = sum(n * n for n in range(10_000))
    stamp = f"stamp {os.getpid()} {threading.get_native_id()} {time.monotonic_ns()}"
    return f"{digest[:8]} {total} {stamp}"


if __name__ == "__main__":
    sent = [work.delay(number) for number in range(int(sys.argv[1]))]
    for result in sent:
        print(result.get(timeout=60, interval=0.05))
