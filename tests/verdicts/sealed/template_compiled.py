"""The first request compiles a large template, once; compile() keeps the GIL all the while.

Later requests use what was compiled. The feed beside it, a message every 10 ms, stood still once.
"""

# /// verdict
# kind = "freeze"
# thread = "feed"
# value_ms = [100, 4000]
# ///

import threading
import time


def source():
    lines = [f"    out.append(f'<td>{{row[{i % 9}] + {i}}}</td>')" for i in range(6_000)]
    return "def render(row, out):\n" + "\n".join(lines) + "\n"


def compiled(text):
    return compile(text, "page.html", "exec")  # CULPRIT


def requests(text, end):
    time.sleep(0.3)
    names = {}
    exec(compiled(text), names)
    while time.monotonic() < end:
        time.sleep(0.05)


def feed(end):
    while time.monotonic() < end:
        time.sleep(0.01)


def main():
    text = source()
    end = time.monotonic() + 1.4
    threads = [
        threading.Thread(target=requests, args=(text, end), name="requests"),
        threading.Thread(target=feed, args=(end,), name="feed"),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
