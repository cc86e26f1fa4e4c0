"""A pool of processes computes with small arguments: a GIL for each."""

# /// verdict
# kind = "nothing"
# ///

from concurrent.futures import ProcessPoolExecutor


def work(n):
    return sum(i * i for i in range(n))


if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(work, [400_000] * 16))
