"""A page that computes a little and waits a little, and says where and when it ran."""

import hashlib
import os
import threading
import time

from flask import Flask

app = Flask(__name__)


@app.get("/")
def page():
    time.sleep(0.001)
    digest = hashlib.sha256(b"x" * 100_000).hexdigest()
    total = sum(number * number for number in range(2_000))
    return f"{digest} {total}\n"


@app.get("/stamp")
def stamp():
    return f"stamp {os.getpid()} {threading.get_native_id()} {time.monotonic_ns()}\n"
