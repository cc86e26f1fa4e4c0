"""A thread has a mutex of C code and wants the GIL; another has the GIL and wants the mutex.

That happens in a child process, since nothing in it gets on; the parent ends it.
"""

# /// verdict
# kind = "deadlock"
# thread = "logger-*"
# value_ms = [1000, 2500]
# ///

import ctypes
import os
import signal
import threading
import time

LIBRARY = ctypes.PyDLL(None)  # its calls keep the GIL
mutex = ctypes.create_string_buffer(64)  # a pthread_mutex_t, all zero


def mutex_first():
    LIBRARY.pthread_mutex_lock(mutex)
    time.sleep(0.3)  # CULPRIT


def gil_first():
    time.sleep(0.1)
    LIBRARY.pthread_mutex_lock(mutex)  # CULPRIT


child = os.fork()
if child == 0:
    threading.Thread(target=mutex_first, name="logger-a").start()
    threading.Thread(target=gil_first, name="logger-b").start()
else:
    time.sleep(2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
