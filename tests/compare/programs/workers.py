"""The same work by two workers. Argument: `threads` or `processes`."""

import multiprocessing
import sys
import threading


def work() -> None:
    sum(n * n % 7 for n in range(1_500_000))


kind = threading.Thread if sys.argv[1] == "threads" else multiprocessing.get_context("fork").Process
workers = [kind(target=work, name=f"worker-{number}") for number in range(2)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
