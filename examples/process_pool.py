"""Processes that share no GIL: a pool of workers, each with a GIL of its own.

The same work as in threads, but in the trace each worker is a process with a GIL that nobody else
wants. What remains is the parent: its pool's threads hand out the tasks and collect the results.

    gilscope record python examples/process_pool.py
"""

import argparse
import multiprocessing
import time


def compute(number):
    return sum(value * value % 7 for value in range(number))


def main():
    parser = argparse.ArgumentParser(description="compute in a pool of processes")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--method", choices=multiprocessing.get_all_start_methods())
    args = parser.parse_args()

    context = multiprocessing.get_context(args.method)
    results = 0
    start = time.perf_counter()
    with context.Pool(args.workers) as pool:
        while results == 0 or time.perf_counter() < start + args.seconds:
            results += len(pool.map(compute, [20_000] * 4 * args.workers))
        pool.close()
        pool.join()
    print(f"{results / (time.perf_counter() - start):.0f} results/s from {args.workers} workers")


if __name__ == "__main__":
    main()
