"""A sched loop that starts jobs: one waits for a subprocess, the others ask a database.

Each thread of the jobs has its own connection. The jobs are short, the pauses are long, and
main() sleeps in join().
"""

# /// verdict
# kind = "nothing"
# ///

import concurrent.futures
import sched
import sqlite3
import subprocess
import threading
import time

own = threading.local()


def connection():
    if not hasattr(own, "database"):
        own.database = sqlite3.connect(":memory:")
        own.database.execute("create table visits (day integer, page text)")
        own.database.executemany(
            "insert into visits values (?, ?)", [(i % 7, f"/{i}") for i in range(500)]
        )
    return own.database


def count_visits():
    query = "select day, count(*) from visits group by day"
    return connection().execute(query).fetchall()


def rotate_logs():
    subprocess.run(["sleep", "0.3"], check=True)


def cron(jobs):
    schedule = sched.scheduler(time.monotonic, time.sleep)
    for i in range(20):
        schedule.enter(0.05 * i, 1, jobs.submit, (count_visits,))
    for i in range(3):
        schedule.enter(0.3 * i, 2, jobs.submit, (rotate_logs,))
    schedule.run()


def main():
    with concurrent.futures.ThreadPoolExecutor(5, thread_name_prefix="job") as jobs:
        clock = threading.Thread(target=cron, args=(jobs,), name="cron")
        clock.start()
        clock.join()


if __name__ == "__main__":
    main()
