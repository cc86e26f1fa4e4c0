"""A main thread that asks "is it done?" without a pause, while a download goes on.

The loop does nothing useful and computes all the time. The download comes back from each read and
waits for the GIL of the loop that waits for it; so does the mirror that sends.
"""

# /// verdict
# kind = "convoy"
# thread = ["download", "mirror"]
# value_ms = [200, 1500]
# ///

import socket
import threading
import time


def mirror(server, end):
    with server:
        while time.monotonic() < end:
            server.sendall(b"x" * 900)
            time.sleep(0.004)


def download(client, done):
    with client:
        while client.recv(1024):
            pass
    done.set()


def wait_until(done):
    while not done.is_set():  # CULPRIT
        pass  # CULPRIT


def main():
    server, client = socket.socketpair()
    done = threading.Event()
    end = time.monotonic() + 1.2
    threads = [
        threading.Thread(target=mirror, args=(server, end), name="mirror"),
        threading.Thread(target=download, args=(client, done), name="download"),
    ]
    for thread in threads:
        thread.start()
    wait_until(done)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
