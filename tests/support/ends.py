"""Ways in which a program with threads ends."""

from support.faults import WORK

# Each ends, or fails to end, in another way; what is compared is its code and what it printed.
ENDS = {
    "os._exit": "print('out', flush=True); os._exit(7)",
    "os._exit while threads run": """
threading.Thread(target=work, args=(10**9,), name="endless").start()
os._exit(8)
""",
    "sys.exit": "sys.exit('the reason')",
    "sys.exit in a thread": """
def leave():
    work()
    sys.exit(9)
thread = threading.Thread(target=leave, name="leaver")
thread.start()
thread.join()
print("still here")
""",
    "an exception": "raise ValueError('nobody catches this')",
    "an exception in a thread": """
def fall():
    work()
    raise KeyError("in a thread")
thread = threading.Thread(target=fall, name="faller")
thread.start()
thread.join()
""",
    "an exception at exit": """
class Late:
    def __call__(self):
        work()
        raise RuntimeError("at exit")
    def __repr__(self):
        return "Late()"
atexit.register(Late())
""",
    "a thread started at exit of another": """
def outlive():
    threading.main_thread().join()
    work()
    print("the last word")
threading.Thread(target=outlive, name="outliver").start()
""",
    "daemon threads at shutdown": """
for i in range(20):
    threading.Thread(target=work, args=(10**9,), name=f"daemon-{i}", daemon=True).start()
work()
""",
    "daemon threads that compute at shutdown": """
def spin():
    while True:
        sum(range(100))
for i in range(4):
    threading.Thread(target=spin, name=f"spinner-{i}", daemon=True).start()
work()
""",
    "abort": "os.abort()",
    "a segmentation fault": "signal.raise_signal(signal.SIGSEGV)",
    "killed by itself": "os.kill(os.getpid(), signal.SIGKILL)",
    "exec into a shell": "os.execvp('sh', ['sh', '-c', 'echo from the shell; exit 5'])",
    "a failed exec": """
try:
    os.execv("/nowhere/at/all", ["x"])
except FileNotFoundError as error:
    print(error)
""",
}
HEAD = f"import atexit, os, signal, sys\n{WORK}\ncrew()\n"
