"""Two interpreters with GILs of their own, each computing in its own thread."""

# /// verdict
# kind = "nothing"
# python = "3.12"
# ///

import threading

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

LOOP = "n = 0\nfor i in range(6_000_000):\n    n += i\n"


def own():
    interpreter = interpreters.create()
    interpreters.run_string(interpreter, LOOP)
    interpreters.destroy(interpreter)


threads = [threading.Thread(target=own, name=f"own-{n}") for n in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
