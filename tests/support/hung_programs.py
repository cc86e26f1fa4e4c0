"""Programs that hang, and what is true of each. A line that a thread stands in bears its name."""

from __future__ import annotations

from dataclasses import dataclass

_HEAD = """
import ctypes, json, os, sys, tempfile, threading, time


def start(name, target, *arguments):
    thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
    thread.start()
    return thread


def said():
    print(json.dumps(os.getpid()), flush=True)


"""


@dataclass(frozen=True)
class Hung:
    """`circle`: who waits for whom, each for what the next one has: (name, kind of wait, how the
    holder is known), each standing in the line that ends with `# NAME`.
    """

    program: str
    circle: tuple[tuple[str, str, str], ...] = ()

    @property
    def source(self) -> str:
        return _HEAD + self.program

    def line(self, name: str) -> int:
        """Where this thread stands."""
        (line,) = (
            number
            for number, text in enumerate(self.source.split("\n"), 1)
            if text.endswith(f"# {name}")
        )
        return line


TWO_LOCKS = Hung(
    """
first, second = threading.Lock(), threading.Lock()
ready = threading.Barrier(2)

def one():
    with first:
        ready.wait()
        for _ in range(2):
            with second:  # one
                pass

def two():
    try:
        with second:
            ready.wait()
            first.acquire()  # two
    finally:
        pass

start("one", one)
start("two", two)
said()
time.sleep(600)
""",
    (("one", "lock", "with"), ("two", "lock", "with")),
)

THREE_LOCKS = Hung(
    """
locks = [threading.Lock() for _ in range(3)]
ready = threading.Barrier(3)

def worker_0():
    with locks[0]:
        ready.wait()
        with locks[1]:  # worker-0
            pass

def worker_1():
    with locks[1]:
        ready.wait()
        with locks[2]:  # worker-1
            pass

def worker_2():
    with locks[2]:
        ready.wait()
        with locks[0]:  # worker-2
            pass

for number, worker in enumerate((worker_0, worker_1, worker_2)):
    start(f"worker-{number}", worker)
said()
time.sleep(600)
""",
    (
        ("worker-0", "lock", "with"),
        ("worker-1", "lock", "with"),
        ("worker-2", "lock", "with"),
    ),
)

RLOCKS = Hung(
    """
first, second = threading.RLock(), threading.RLock()
ready = threading.Barrier(2)

def take(mine, other):
    mine.acquire()
    mine.acquire()
    ready.wait()

def one():
    take(first, second)
    second.acquire()  # one

def two():
    take(second, first)
    with first:  # two
        pass

start("one", one)
start("two", two)
said()
time.sleep(600)
""",
    (("one", "rlock", "owner"), ("two", "rlock", "owner")),
)

IMPORT = Hung(
    """
folder = tempfile.mkdtemp()
with open(os.path.join(folder, "big_dep.py"), "w") as file:
    file.write("import __main__\\n__main__.inside.set()\\n__main__.configure()\\n")
sys.path.insert(0, folder)
lock, inside = threading.Lock(), threading.Event()

def configure():
    with lock:  # importer
        pass

def importer():
    import big_dep

def user():
    with lock:
        start("importer", importer)
        inside.wait()
        import big_dep  # user

start("user", user)
inside.wait()
said()
time.sleep(600)
""",
    (("importer", "lock", "with"), ("user", "import", "owner")),
)

JOIN = Hung(
    """
lock = threading.Lock()

def worker():
    with lock:  # worker
        pass

with lock:
    its = start("worker", worker)
    said()
    its.join()  # MainThread
""",
    (("worker", "lock", "with"), ("MainThread", "join", "owner")),
)

MUTEX_AND_GIL = Hung(
    """
libc = ctypes.PyDLL(None)  # calls that keep the GIL
mutex = ctypes.create_string_buffer(64)  # a pthread_mutex_t
taken = threading.Event()

def logger_a():
    libc.pthread_mutex_lock(mutex)
    taken.set()
    while True:
        time.sleep(0.02)  # logger-a

def logger_b():
    taken.wait()
    libc.pthread_mutex_lock(mutex)  # logger-b

start("logger-a", logger_a)
said()
start("logger-b", logger_b)
time.sleep(600)
""",
    (("logger-a", "gil", "owner"), ("logger-b", "mutex", "owner")),
)

# Up to 3.13.0: a Lock is a semaphore, and C code can wait for it with the GIL.
LOCK_AND_GIL = Hung(
    """
lock, taken = threading.Lock(), threading.Event()
semaphore = ctypes.c_void_p.from_address(id(lock) + 16)
wait = ctypes.PyDLL(None).sem_wait

def keeper():
    with lock:
        taken.set()
        while True:
            time.sleep(0.02)  # keeper

def c_code():
    taken.wait()
    wait(semaphore)  # c-code

start("keeper", keeper)
said()
start("c-code", c_code)
time.sleep(600)
""",
    (("keeper", "gil", "owner"), ("c-code", "lock", "with")),
)

# No circle: one computes or sleeps in C with the GIL, for ever.
C_CALL = Hung(
    """
sleeps = ctypes.PyDLL(None).sleep

def solver():
    while not told:
        time.sleep(0.01)
    sleeps(600)  # solver

told = False
start("solver", solver)
said()
told = True
while True:
    time.sleep(0.01)
"""
)

# No circle either: nobody knows who has the lock, it was not taken by `with`.
LOST_RELEASE = Hung(
    """
lock = threading.Lock()

def takes_and_forgets():
    lock.acquire()

def waiter():
    with lock:  # waiter
        pass

takes_and_forgets()
start("waiter", waiter)
said()
time.sleep(600)  # MainThread
"""
)

# Each of these waits for something that comes, or would come: none is a deadlock.
IDLE = Hung(
    """
import queue

jobs, event, condition = queue.Queue(), threading.Event(), threading.Condition()
lock = threading.Lock()

def notified():
    with condition:
        condition.wait()  # notified

def consumer():
    jobs.get()  # consumer

def patient():
    jobs.get(timeout=600)  # patient

def listener():
    event.wait()  # listener

def inside():
    with condition:
        pass
    with lock:
        time.sleep(600)  # inside

def outside():
    with lock:  # outside
        pass

start("inside", inside)
time.sleep(0.1)
start("outside", outside)
time.sleep(0.1)  # it stands for a second before the others do
start("notified", notified)
start("consumer", consumer)
start("patient", patient)
start("listener", listener)
said()
time.sleep(600)
"""
)

CIRCLES = {
    "two-locks": TWO_LOCKS,
    "three-locks": THREE_LOCKS,
    "rlocks": RLOCKS,
    "import": IMPORT,
    "join": JOIN,
    "mutex-and-gil": MUTEX_AND_GIL,
}
