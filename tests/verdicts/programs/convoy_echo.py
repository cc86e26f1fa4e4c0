"""An echo server and its client over a socket pair, and a thread that computes beside them."""

# /// verdict
# kind = "convoy"
# thread = ["server", "client"]
# value_ms = [150, 1400]
# ///

import socket
import threading
import time


def total(numbers):
    result = 0
    for number in numbers:  # CULPRIT
        result += number * number  # CULPRIT
    return result


def report(end):
    while time.monotonic() < end:
        total(range(100_000))


def server(connection):
    while message := connection.recv(100):
        connection.sendall(message)


def client(connection, end):
    while time.monotonic() < end:
        connection.sendall(b"hello")
        connection.recv(100)
    connection.shutdown(socket.SHUT_RDWR)


here, there = socket.socketpair()
end = time.monotonic() + 1.4
threads = [
    threading.Thread(target=report, args=(end,), name="report"),
    threading.Thread(target=server, args=(there,), name="server"),
    threading.Thread(target=client, args=(here, end), name="client"),
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
