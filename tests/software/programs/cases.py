"""A small test suite, for pytest-xdist and coverage. (Not named test_*: it is not one of ours.)"""

import threading

import pytest


@pytest.mark.parametrize("number", range(40))
def test_threads_add_up(number):
    total = []
    threads = [
        threading.Thread(target=lambda n=n: total.append(sum(range(n * 100))), name=f"adder-{n}")
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(total) == sum(sum(range(n * 100)) for n in range(4))
    assert number != 13, "the one that fails"
