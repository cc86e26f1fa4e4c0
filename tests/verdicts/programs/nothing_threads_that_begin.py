"""Fifty threads begin, do almost nothing and end."""

# /// verdict
# kind = "nothing"
# ///

import threading

threads = [threading.Thread(target=sum, args=([1, 2],), name=f"short-{n}") for n in range(50)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
