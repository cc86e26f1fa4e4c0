"""Forks while threads wait: in the child they are gone, and whoever waits there is woken all the
same. Nobody calls _at_fork_reinit on a program's own locks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support import interpreters

PROGRAM = """
import os, queue, signal, sys, threading, time

kit, case = sys.argv[1:]
if kit == "threading":
    from threading import Condition, Event
elif kit == "native":
    from gilscope import Condition
    threading.Condition = Condition
    from threading import Event
else:
    from gilscope.locks import Condition, Event

def asleep(thread):
    "Waits until it sleeps: this thread sleeps too, so it does not wait for the GIL."
    seen = 0
    while seen < 5:
        time.sleep(0.002)
        with open(f"/proc/self/task/{thread.native_id}/stat") as stat:
            seen = seen + 1 if stat.read().rpartition(")")[2].split()[0] == "S" else 0

def begin(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    asleep(thread)
    return thread

def ends(thread):
    thread.join(60)
    return not thread.is_alive()

def forked(in_child):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if in_child() else 2
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, code

def wait_for(condition, told):
    with condition:
        told.append(condition.wait(60))

def one_more(condition):
    "A thread of this process waits and is the one that is notified."
    told = []
    mine = begin(lambda: wait_for(condition, told))
    with condition:
        condition.notify()
    return ends(mine) and told == [True]

def waiters(lock=None):
    condition = Condition(lock)
    for _ in range(3):
        begin(lambda: wait_for(condition, []))
    forked(lambda: one_more(condition))

def waiters_with_a_foreign_lock():
    waiters(threading.Lock())

def lock():
    condition = Condition()
    def take():
        with condition:
            pass
    with condition:
        begin(take)
        def in_child():
            mine = begin(take)
            condition.release()
            return ends(mine)
        forked(in_child)

def notified(lock=None):
    "Without the lock yet."
    condition = Condition(lock)
    theirs = begin(lambda: wait_for(condition, []))
    with condition:
        condition.notify()
        asleep(theirs)
        def in_child():
            condition.release()
            return one_more(condition)
        forked(in_child)

def notified_with_a_foreign_lock():
    notified(threading.Lock())

def grandchild():
    "Forked by a thread that may have the identity of one that was left behind."
    condition = Condition()
    for _ in range(3):
        begin(lambda: wait_for(condition, []))
    def in_child():
        codes = []
        def fork_on():
            forked(lambda: one_more(condition))
            codes.append(0)
        threads = [threading.Thread(target=fork_on) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return codes == [0, 0, 0]
    forked(in_child)

def while_waiting(lock=None):
    "By the thread that waits itself, in a signal's handler."
    condition, told, pids = Condition(lock), [], []
    def handler(number, frame):
        pid = os.fork()
        pids.append(pid)
        if not pid:
            begin(notify)
    def notify():
        with condition:
            condition.notify()
    signal.signal(signal.SIGUSR1, handler)
    begin(lambda: wait_for(condition, []))
    main = threading.get_native_id()
    def alarm():
        class Main:
            native_id = main
        asleep(Main)
        os.kill(os.getpid(), signal.SIGUSR1)
        while not pids:
            time.sleep(0.002)
        os.waitpid(pids[0], 0)
        with condition:
            condition.notify_all()
    with condition:
        sender = threading.Thread(target=alarm)
        sender.start()
        told = condition.wait(60)
    if not pids[0]:
        os._exit(0 if told else 3)
    assert told and ends(sender)

def while_waiting_with_a_foreign_lock():
    while_waiting(threading.Lock())

def event():
    event = Event()
    begin(event.wait)
    def in_child():
        mine = begin(event.wait)
        event.set()
        return ends(mine)
    forked(in_child)

def items():
    items = queue.Queue()
    def work():
        while True:
            items.get()
    begin(work)
    def in_child():
        got = []
        def work():
            while len(got) < 20:
                got.append(items.get())
        mine = begin(work)
        for i in range(20):
            items.put(i)
            time.sleep(0.001)
        return ends(mine) and got == list(range(20))
    forked(in_child)

globals()[case]()
print("ok")
"""
CASES = (
    *("waiters", "waiters_with_a_foreign_lock", "lock", "notified", "notified_with_a_foreign_lock"),
    *("grandchild", "while_waiting", "while_waiting_with_a_foreign_lock", "event", "items"),
)
KITS = {"native": "3.13", "locks": "3.13", "threading": interpreters.PLUS}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kit", KITS)
def test_who_waits_in_the_child_is_woken(kit: str, case: str, root: Path) -> None:
    variables = {"PYTHONPATH": str(root)}
    if kit == "locks":
        variables["LD_PRELOAD"] = str(root / "gilscope" / "_probe.so")
    done = subprocess.run(
        [interpreters.path(KITS[kit]), "-W", "ignore", "-c", PROGRAM, kit, case],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
