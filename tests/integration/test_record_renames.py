"""Threads carry the names that Python, or else the program, gives them: also later, also oddly."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.recorded import record

PROGRAM = """
import _thread, ctypes, os, threading, time

go = threading.Event()

def name_myself():
    threading.current_thread().name = "its own"
    go.wait()

class Wrapped:  # as a debugger wraps what it wants to see begin
    def __init__(self, function):
        self.function = function
    def __call__(self, *args):
        return self.function(*args)

def name_like_c(libc):
    libc.pthread_setname_np(ctypes.c_void_p(libc.pthread_self()), b"from C")
    named.set()
    go.wait()
    over.set()

old = threading.Thread(target=go.wait, name="old")
own = threading.Thread(target=name_myself)
named, over = threading.Event(), threading.Event()
libc = ctypes.CDLL(None)
libc.pthread_self.restype = ctypes.c_void_p
_thread.start_new_thread(name_like_c, (libc,))
for thread in old, own:
    thread.start()
named.wait()
threading.main_thread().name = "the boss"
old.name = "new"
end = time.monotonic() + 0.3  # names are looked for when threads start, but not at each start
while time.monotonic() < end:
    filler = threading.Thread(target=int, name="filler")
    filler.start()
    filler.join()

start = getattr(threading, "_start_joinable_thread", None)
if start:
    threading._start_joinable_thread = lambda f, **options: start(Wrapped(f), **options)
else:
    start = threading._start_new_thread
    threading._start_new_thread = lambda f, args: start(Wrapped(f), args)
wrapped = threading.Thread(target=go.wait, name="wrapped")
wrapped.start()

def raw(ended=_thread.allocate_lock()):
    libc.pthread_setname_np(ctypes.c_void_p(libc.pthread_self()), b"raw")
    ended.release()

class Meddling(threading.Thread):  # starts another while it is about to be started itself
    def _bootstrap(self):
        super()._bootstrap()
    def __getattribute__(self, name):
        if name == "_bootstrap":
            ended = _thread.allocate_lock()
            ended.acquire()
            _thread.start_new_thread(Wrapped(raw), (ended,))
            ended.acquire()
        return super().__getattribute__(name)

meddling = Meddling(target=int, name="meddling")
meddling.start()
meddling.join()
go.set()
for thread in old, own, wrapped:
    thread.join()
over.wait()
if os.fork() == 0:
    in_child = threading.Thread(target=int, name="in the child")
    in_child.start()
    in_child.join()
    os._exit(0)
os.wait()
"""


def test_renamed_wrapped_and_foreign_threads(interpreter: Path, tmp_path: Path) -> None:
    (tmp_path / "names.py").write_text(PROGRAM, encoding="utf-8")
    done = record(tmp_path, interpreter, "names.py")
    assert done.code == 0, done.err
    names: dict[int, list[str]] = {}  # a launcher of the interpreter may come before it
    for thread in done.metadata.threads:
        names.setdefault(thread.process, []).append(thread.name)
    parent, child = names.values()
    assert parent.count("raw") == parent.count("meddling") == parent.count("wrapped") == 1
    assert set(parent) == {
        "the boss",
        "new",
        "its own",
        "from C",
        "wrapped",
        "filler",
        "raw",
        "meddling",
    }
    assert child == ["the boss", "in the child"]


LATE = """
import threading
go, renamed = threading.Event(), threading.Event()
def rename_myself():
    go.wait()
    threading.current_thread().name = "renamed at last"
threads = [
    threading.Thread(target=rename_myself, name="first"),
    threading.Thread(target=renamed.wait, name="second"),
]
for thread in threads:
    thread.start()
threads[1].name = "renamed by another"
go.set()
threads[0].join()
renamed.set()
threads[1].join()
"""


SEES = "import sys; sys.exit(sys.version_info >= (3, 14))"


def test_a_rename_that_no_start_follows(interpreter: Path, tmp_path: Path) -> None:
    """A thread's last name is read when it leaves threading's table, which up to 3.13 is seen."""
    (tmp_path / "late.py").write_text(LATE, encoding="utf-8")
    done = record(tmp_path, interpreter, "late.py")
    assert done.code == 0, done.err
    names = [thread.name for thread in done.metadata.threads if not thread.is_main]
    tells = subprocess.run([interpreter, "-c", SEES], check=False).returncode == 0
    assert names == ["renamed at last", "renamed by another" if tells else "second"]


RAW = """
import ctypes, time
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
interpreters.destroy(interpreters.create())  # from now on PyGILState_Check always says yes
libc = ctypes.CDLL(None)  # a CDLL gives the GIL up while it calls
start = libc.PyThread_start_new_thread
start.restype = ctypes.c_ulong
start.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
end = time.monotonic() + 0.1  # names are not looked for at every start
while time.monotonic() < end:
    start(ctypes.cast(libc.free, ctypes.c_void_p), None)
print("the end")
"""


def test_a_thread_started_without_the_gil(interpreter: Path, tmp_path: Path) -> None:
    """Python must not be asked for its name, nor for anybody's."""
    (tmp_path / "raw.py").write_text(RAW, encoding="utf-8")
    done = record(tmp_path, interpreter, "raw.py")
    assert (done.code, done.out) == (0, "the end\n"), done.err


FOREIGN = """
import ctypes, struct, threading
api = ctypes.pythonapi  # keeps the GIL while it calls
start = api.PyThread_start_new_thread
start.restype = ctypes.c_ulong
start.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
nonsense = ctypes.create_string_buffer(b"A" * 4096)
seems_object = ctypes.create_string_buffer(
    b"A" * 64 + struct.pack("QQ", 1, ctypes.addressof(nonsense)) + b"A" * 64
)
argument = ctypes.create_string_buffer(
    struct.pack("QQ", 1, ctypes.addressof(seems_object) + 64) + b"A" * 64
)
for _ in range(3):
    start(ctypes.cast(api.Py_GetVersion, ctypes.c_void_p), ctypes.addressof(argument))
    thread = threading.Thread(target=int, name="mine")
    thread.start()
    thread.join()
print("the end")
"""


def test_an_argument_that_is_not_a_thread_s(interpreter: Path, tmp_path: Path) -> None:
    """An executable that has CPython within may start threads by CPython's own function, to run
    its own: what it hands over looks like a thread's here, and nothing in it is an object.
    """
    (tmp_path / "foreign.py").write_text(FOREIGN, encoding="utf-8")
    done = record(tmp_path, interpreter, "foreign.py")
    assert (done.code, done.out) == (0, "the end\n"), done.err
    assert [one.name for one in done.metadata.threads].count("mine") == 3
