"""A report that sorts its rows by a key function in Python, again and again.

sort() is a call into C, but it calls the key for each row, and there Python can be made to let the
GIL go. The socket's thread, which answers a ping every 5 ms, waits a switch interval each time.
"""

# /// verdict
# kind = "convoy"
# thread = ["pings", "client"]
# value_ms = [200, 1400]
# ///

import random
import socket
import threading
import time


def key(row):
    name, amount, tags = row  # CULPRIT
    return (len(tags), -amount, name.lower(), sum(map(ord, name)))  # CULPRIT


def report(rows, end):
    while time.monotonic() < end:
        random.shuffle(rows)  # CULPRIT
        rows.sort(key=key)  # CULPRIT


def answer(server):
    while message := server.recv(16):
        server.sendall(message)


def ask(client, end):
    while time.monotonic() < end:
        time.sleep(0.005)
        client.sendall(b"ping")
        client.recv(16)
    client.close()


def main():
    rows = [(f"customer {i % 977}", i * 7 % 1_003, ("new",) * (i % 4)) for i in range(8_000)]
    server, client = socket.socketpair()
    end = time.monotonic() + 1.3
    threads = [
        threading.Thread(target=answer, args=(server,), name="pings"),
        threading.Thread(target=ask, args=(client, end), name="client"),
        threading.Thread(target=report, args=(rows, end), name="report"),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
