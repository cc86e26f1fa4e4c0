"""A daemon thread sleeps when the program ends."""

# /// verdict
# kind = "nothing"
# ///

import threading
import time

threading.Thread(target=time.sleep, args=(60,), name="sleeper", daemon=True).start()
end = time.monotonic() + 0.5
while time.monotonic() < end:
    sum(range(1_000))
