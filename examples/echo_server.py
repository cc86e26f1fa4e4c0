"""The convoy: an echo server beside a thread that computes.

The thread "echo" needs the GIL for microseconds a request, but each time it comes back from the
socket the thread "spin" has it, and keeps it for a whole switch interval (5 ms by default). So
requests are answered at the pace of switch intervals, not of the machine. Try it with no spinning
thread to see the difference:

    gilscope record python examples/echo_server.py
    python examples/echo_server.py --spinners 0
"""

import argparse
import socket
import subprocess
import sys
import threading
import time

PAUSE = 0.001  # seconds


def echo(listener):
    connection, _ = listener.accept()
    with connection:
        while True:
            request = connection.recv(64)
            if not request:
                return
            connection.sendall(request)


def spin(stop):
    number = 0
    while not stop.is_set():
        for _ in range(1000):
            number = (number * 31 + 7) % 65537


def client(port, seconds):
    """A process of its own, so that it shares no GIL with the server.

    It pauses before each request, as clients do. Without the pause a reply and the next request
    may be through before "spin" has woken up, and the machine's load decides what one sees.
    """
    times = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            time.sleep(PAUSE)
            start = time.perf_counter()
            connection.sendall(b"hello")
            connection.recv(64)
            times.append(time.perf_counter() - start)
    times.sort()
    p50, p99 = (times[int(len(times) * share)] * 1e3 for share in (0.5, 0.99))
    print(f"{len(times) / seconds:.0f} requests/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms")


def main():
    parser = argparse.ArgumentParser(description="an echo server beside threads that compute")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--spinners", type=int, default=1)
    parser.add_argument("--client", type=int, metavar="PORT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.client is not None:
        client(args.client, args.seconds)
        return

    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        server = threading.Thread(target=echo, args=(listener,), name="echo", daemon=True)
        server.start()
        for _ in range(args.spinners):
            threading.Thread(target=spin, args=(stop,), name="spin").start()
        options = ["--client", port, "--seconds", str(args.seconds)]
        try:
            subprocess.run([sys.executable, __file__, *options], check=True)
            server.join()
        finally:
            stop.set()


if __name__ == "__main__":
    main()
