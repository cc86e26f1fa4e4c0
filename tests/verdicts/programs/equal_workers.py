"""Four threads share out a fixed amount of computing."""

# /// verdict
# kind = "crowd"
# thread = "burn-*"
# value_ms = [60, 1600]
# ci = true
# ///

import threading


def burn():
    for _ in range(6):
        sum(i * i for i in range(400_000))  # CULPRIT


threads = [threading.Thread(target=burn, name=f"burn-{n}") for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
