"""Sixty crawlers with a rate limit: each sleeps between its requests, and reads a small answer.

Together they use a few hundredths of one processor. Nobody waits for anybody.
"""

# /// verdict
# kind = "nothing"
# ///

import json
import threading
import time

CRAWLERS = 60
ANSWER = json.dumps({"links": [f"/page/{i}" for i in range(20)]})


def crawl(number, end):
    pause = 0.1 + number % 7 * 0.01
    time.sleep(number * 0.002)
    while time.monotonic() < end:
        json.loads(ANSWER)
        time.sleep(pause)


def main():
    end = time.monotonic() + 1.2
    threads = [
        threading.Thread(target=crawl, args=(i, end), name=f"crawler-{i}") for i in range(CRAWLERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
