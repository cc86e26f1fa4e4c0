"""Two threads compute for the same time."""

# /// verdict
# kind = "crowd"
# thread = ["left", "right"]
# value_ms = [300, 1000]
# ///

import threading
import time


def compute(end):
    text = ""
    while time.monotonic() < end:  # CULPRIT
        text = (text + "abc")[-60:]  # CULPRIT
        text.replace("b", "x")  # CULPRIT


end = time.monotonic() + 1.3
for name in ("left", "right"):
    threading.Thread(target=compute, args=(end,), name=name).start()
