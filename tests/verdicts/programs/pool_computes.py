"""A ThreadPoolExecutor whose tasks compute in Python: a pool of threads makes them no faster."""

# /// verdict
# kind = "crowd"
# thread = "ThreadPoolExecutor-*"
# value_ms = [30, 1700]
# ///

import concurrent.futures


def primes(limit):
    found = []
    for n in range(2, limit):  # CULPRIT
        if all(n % p for p in found if p * p <= n):  # CULPRIT
            found.append(n)  # CULPRIT
    return len(found)


with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(primes, [6_000] * 12))
