"""A thread counts by a semaphore which jobs are done: nobody has it, nothing is wrong."""

# /// verdict
# kind = "nothing"
# ///

import threading
import time

done = threading.Semaphore(0)
JOBS = 12


def job(n):
    time.sleep(0.1 * n)
    done.release()


for n in range(JOBS):
    threading.Thread(target=job, args=(n,), name=f"job-{n}").start()
for _ in range(JOBS):
    done.acquire()
