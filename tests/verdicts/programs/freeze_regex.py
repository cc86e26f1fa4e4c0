"""One regular expression in a web server that backtracks for a quarter of a second or more."""

# /// verdict
# kind = "freeze"
# thread = ["client", "server"]
# value_ms = [100, 1500]
# ///

import re
import socket
import threading
import time


def server(connection):
    number = 0
    while message := connection.recv(100):
        number += 1
        connection.sendall(message)


def admin():
    time.sleep(0.6)
    re.match(r"(a+)+$", "a" * 22 + "b")  # CULPRIT


def client(connection, end):
    while time.monotonic() < end:
        connection.sendall(b"x")
        connection.recv(100)
        time.sleep(0.01)
    connection.close()


here, there = socket.socketpair()
threading.Thread(target=server, args=(there,), name="server").start()
threading.Thread(target=client, args=(here, time.monotonic() + 1.5), name="client").start()
threading.Thread(target=admin, name="admin").start()
