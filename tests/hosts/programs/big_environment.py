"""VARIABLES STACK PROGRAM…: starts each program, with so many variables, from a thread with so
small a stack, in every way."""

import os
import subprocess
import sys
import threading

LEAST = 0 if sys.version_info < (3, 14) else 53248  # that Python allows
threading.stack_size(max(int(sys.argv[2]), LEAST))
for number in range(int(sys.argv[1])):
    os.environ[f"V{number}"] = "x"


def start_all():
    for program in sys.argv[3:]:
        print(subprocess.call([program]))
        print(subprocess.call([program], close_fds=False, env=dict(os.environ)))
        print(os.waitpid(os.posix_spawn(program, [program], os.environ), 0)[1])
        if (pid := os.fork()) == 0:
            try:
                os.execv(program, [program])
            finally:
                os._exit(99)
        print(os.waitpid(pid, 0)[1])


for _ in range(2):
    thread = threading.Thread(target=start_all)
    thread.start()
    thread.join()
