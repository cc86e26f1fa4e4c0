"""Two threads hand a token to each other by events, a few hundred times a second."""

# /// verdict
# kind = "nothing"
# ///

import threading
import time


def player(mine, other, end):
    while time.monotonic() < end:
        if mine.wait(0.1):
            mine.clear()
            time.sleep(0.002)
            other.set()


ping, pong = threading.Event(), threading.Event()
ping.set()
end = time.monotonic() + 1.2
threading.Thread(target=player, args=(ping, pong, end), name="ping").start()
threading.Thread(target=player, args=(pong, ping, end), name="pong").start()
