"""A server's threads wait for slow clients, and answer in microseconds."""

# /// verdict
# kind = "nothing"
# ///

import socket
import threading
import time


def serve(connection):
    while message := connection.recv(100):
        connection.sendall(message.upper())


def client(connection):
    for _ in range(60):
        connection.sendall(b"hello")
        connection.recv(100)
        time.sleep(0.02)
    connection.close()


for n in range(4):
    here, there = socket.socketpair()
    threading.Thread(target=serve, args=(here,), name=f"server-{n}").start()
    threading.Thread(target=client, args=(there,), name=f"client-{n}").start()
