"""A pool of eight workers that has a small task now and then."""

# /// verdict
# kind = "nothing"
# ///

import concurrent.futures
import time

with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for n in range(20):
        pool.submit(pow, n, 2).result()
        time.sleep(0.05)
