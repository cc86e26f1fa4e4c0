"""Eight threads of a pool parse; their results are collected as they come. They wait for the GIL,
and for the collector's lock, whose owner waits for the GIL.
"""

# /// verdict
# kind = "crowd"
# thread = ["parse_*"]
# ///

import time
from concurrent.futures import ThreadPoolExecutor, as_completed


def parse(number):
    words = {}
    for at in range(2_500):
        words[at % 97] = words.get(at % 97, 0) + number
    return words


def main():
    end = time.monotonic() + 1.3
    with ThreadPoolExecutor(8, "parse") as pool:
        while time.monotonic() < end:
            for future in as_completed([pool.submit(parse, number) for number in range(150)]):
                future.result()


main()
