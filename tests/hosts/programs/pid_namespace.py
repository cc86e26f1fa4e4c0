"""A child that has its parent's pid, in a namespace of its own. As the first process of one."""

import ctypes
import os
import threading

libc = ctypes.CDLL(None, use_errno=True)


def begin_namespace():
    new_pids = 0x20000000
    if libc.unshare(new_pids) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def child(depth):
    if os.fork():
        _, status = os.wait()
        print("depth", depth, "status", status, flush=True)
        return
    thread = threading.Thread(target=sum, args=(range(100_000),), name=f"depth {depth}")
    thread.start()
    thread.join()
    if depth < 3:
        begin_namespace()
        child(depth + 1)
    print("pid", os.getpid(), flush=True)
    os._exit(depth)


begin_namespace()
child(1)
