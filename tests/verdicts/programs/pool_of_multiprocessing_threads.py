"""multiprocessing's ThreadPool, whose workers compute."""

# /// verdict
# kind = "crowd"
# ///

from multiprocessing.pool import ThreadPool


def collatz(start):
    longest = 0
    for n in range(start, start + 1_000):  # CULPRIT
        steps, value = 0, n  # CULPRIT
        while value > 1:  # CULPRIT
            value = 3 * value + 1 if value % 2 else value // 2  # CULPRIT
            steps += 1  # CULPRIT
        longest = max(longest, steps)  # CULPRIT
    return longest


with ThreadPool(3) as pool:
    pool.map(collatz, range(1, 100_000, 4_000), chunksize=2)
