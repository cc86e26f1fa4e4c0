"""A relay: two threads copy bytes, one for each direction, between a client and a server.

They sit in recv() nearly all the time. A few kilobytes come every few milliseconds.
"""

# /// verdict
# kind = "nothing"
# ///

import socket
import threading
import time


def copy(source, target):
    while data := source.recv(65_536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


def serve(connection):
    while data := connection.recv(65_536):
        connection.sendall(data[::-1])
    connection.shutdown(socket.SHUT_WR)


def talk(connection, end):
    while time.monotonic() < end:
        connection.sendall(b"x" * 4_096)
        connection.recv(65_536)
        time.sleep(0.008)
    connection.shutdown(socket.SHUT_WR)


def main():
    client, relay_in = socket.socketpair()
    relay_out, server = socket.socketpair()
    end = time.monotonic() + 1.2
    threads = [
        threading.Thread(target=copy, args=(relay_in, relay_out), name="relay-up"),
        threading.Thread(target=copy, args=(relay_out, relay_in), name="relay-down"),
        threading.Thread(target=serve, args=(server,), name="server"),
        threading.Thread(target=talk, args=(client, end), name="client"),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
