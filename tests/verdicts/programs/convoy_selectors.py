"""A server with a selector, two clients, and one thread that computes."""

# /// verdict
# kind = "convoy"
# thread = ["server", "client-*"]
# value_ms = [150, 1400]
# ///

import selectors
import socket
import threading
import time


def serve(connections):
    selector = selectors.DefaultSelector()
    for connection in connections:
        selector.register(connection, selectors.EVENT_READ)
    while selector.get_map():
        for key, _ in selector.select():
            if message := key.fileobj.recv(100):
                key.fileobj.sendall(message)
            else:
                selector.unregister(key.fileobj)


def client(connection, end):
    while time.monotonic() < end:
        connection.sendall(b"x")
        connection.recv(100)
    connection.close()


def compute(end):
    while time.monotonic() < end:  # CULPRIT
        sorted(range(200), key=lambda n: -n)  # CULPRIT


pairs = [socket.socketpair() for _ in range(2)]
end = time.monotonic() + 1.2
threads = [
    threading.Thread(target=serve, args=([here for here, _ in pairs],), name="server"),
    threading.Thread(target=compute, args=(end,), name="compute"),
]
for n, (_, there) in enumerate(pairs):
    threads.append(threading.Thread(target=client, args=(there, end), name=f"client-{n}"))
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
