"""Programs for the tests of stacks, and what the recording of one says of where threads were."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from gilscope.trace.model import Trace
from gilscope.trace.stacks import Site, path, site

# Four that keep the GIL, each called by its own line; a thread that comes back from IO waits.
CULPRITS = """
import ctypes, re, threading, time
libc = ctypes.PyDLL(None)

def python_loop(until):
    while time.monotonic() < until:
        for i in range(1000):
            i * i

def regular_expression():
    re.match(r"(a+)+$", "a" * 19 + "b")  # LINE regular_expression

def big_integer(a, b):
    product = a * b  # LINE big_integer
    return small(product)

def small(x):
    for i in range(3):
        pass
    return x

def c_call():
    libc.usleep(30_000)  # LINE c_call

def io():
    while not done:
        time.sleep(0.001)  # LINE io

A = 3 ** 400_000  # its product takes several switch intervals
done = False
thread = threading.Thread(target=io, name="io")
thread.start()
for n in range(8):
    python_loop(time.monotonic() + 0.05)
    regular_expression()
    big_integer(A, A)
    c_call()
done = True
thread.join()
"""

# Calls into C that keep the GIL, and a thread that comes back from IO.
KEEPS = """
import ctypes, threading, time
libc = ctypes.PyDLL(None)
def io():
    while not done:
        time.sleep(0.001)
done = False
thread = threading.Thread(target=io, name="io")
thread.start()
for n in range(8):
    libc.usleep(40_000)
    time.sleep(0.005)
done = True
thread.join()
"""

# Each name in SHAPES stands in the stack of a hold that ended while that code ran.
SHAPES = """
import asyncio, ctypes, functools, threading, time
libc = ctypes.PyDLL(None)

def hold():
    libc.usleep(3_000)
    time.sleep(0)

def recursion(n):
    return recursion(n - 1) if n else hold()

def generator():
    hold()
    yield 1

async def coroutine():
    hold()

def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

@decorated
def plain():
    hold()

class Größe:
    def méthode_日本(self):
        hold()

class Made:
    def __init__(self):
        hold()

recursion(30)
for n in range(20):  # until the interpreter takes its short cut
    Made()
list(generator())
asyncio.run(coroutine())
plain()
(lambda: hold())()
exec(compile("def made():\\n\\n\\n    hold()\\nmade()", "<made-up>", "exec"))
Größe().méthode_日本()
thread = threading.Thread(target=hold)
thread.start()
thread.join()
"""


def lines_of(source: str) -> dict[str, int]:
    """The lines of a program that end in `# LINE name`, by that name."""
    return {
        line.rsplit("# LINE ", 1)[1]: number
        for number, line in enumerate(source.splitlines(), 1)
        if "# LINE " in line
    }


def hold_sites(trace: Trace, thread: int, file: Path) -> Counter[Site]:
    """Nanoseconds of that thread's holds whose stack is in `file`, by site."""
    stacks = trace.metadata.stacks
    spent: Counter[Site] = Counter()
    for interval, leaf, of_wait, _, _ in trace.stacks.tolist():
        if of_wait or trace.holds["thread"][interval] != thread:
            continue
        where = site(stacks, leaf)
        if where.file == str(file):
            hold = trace.holds[interval]
            spent[where] += int(hold["end_ns"]) - int(hold["start_ns"])
    return spent


def functions_of_stacks(trace: Trace) -> list[list[tuple[str, int]]]:
    """(function, line) of each distinct stack, leaf first."""
    leaves = sorted(set(trace.stacks["leaf"].tolist()))
    return [
        [(row.function, row.line) for row in path(trace.metadata.stacks, leaf)] for leaf in leaves
    ]
