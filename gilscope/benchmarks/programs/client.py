"""The client of an echo server: a process of its own, so that it shares no GIL with the server.

Closed loop: each connection sends its next request when the reply is there. Open loop: requests are
due at fixed times whether or not replies have come, and a latency counts from when the request was
due, so that a server that stalls cannot hide the requests that it kept from being sent.
"""

from __future__ import annotations

import ctypes
import json
import select
import socket
import sys
import time
from array import array
from collections import deque

MESSAGE = 16  # bytes of a request and of its reply
REQUEST = b"x" * MESSAGE
PR_SET_TIMERSLACK = 29
LOST_NS = 100_000_000  # an open loop's request that is answered later counts as lost

now = time.monotonic_ns


def closed_loop(connections: list[socket.socket], begin: int, end: int) -> tuple[int, array[int]]:
    """How many replies came between begin and end; latencies (ns) of all that came since begin.

    A reply that comes after the end has a latency too: the longest ones are among them.
    """
    taken = array("Q")
    done = 0
    starts = {}
    for connection in connections:
        starts[connection] = now()
        connection.sendall(REQUEST)
    ready = connections
    while starts:
        if len(connections) > 1:
            ready = select.select(list(starts), [], [])[0]
        for connection in ready:
            receive(connection)
            stop = now()
            start = starts.pop(connection)
            if begin <= stop:
                taken.append(stop - start)
                done += stop <= end
            if stop < end:
                starts[connection] = now()
                connection.sendall(REQUEST)
    return done, taken


def open_loop(
    connection: socket.socket, begin: int, end: int, rate: float
) -> tuple[int, int, array[int]]:
    """How many requests were due between begin and end, how many of them were answered in time,
    and the latencies (ns) of all of them.
    """
    taken = array("Q")
    period = int(1e9 / rate)
    due = now()
    waiting: deque[int] = deque()
    offered = 0
    while due < end or waiting:
        rest_s = (due - now()) / 1e9 if due < end else None
        if rest_s is not None and rest_s <= 0:
            connection.sendall(REQUEST)
            waiting.append(due)
            offered += begin <= due
            due += period
        elif select.select([connection], [], [], rest_s)[0]:
            receive(connection)
            sent = waiting.popleft()
            if begin <= sent:
                taken.append(now() - sent)
    return offered, sum(latency <= LOST_NS for latency in taken), taken


def receive(connection: socket.socket) -> None:
    """One whole reply."""
    rest = MESSAGE
    while rest:
        part = connection.recv(rest)
        if not part:
            raise ConnectionError("the echo server hung up")
        rest -= len(part)


def run(order: dict[str, float]) -> dict[str, object]:
    """Play one window. `order` has port, connections, begin, end, and for an open loop rate."""
    begin, end = int(order["begin"]), int(order["end"])
    connections = []
    for _ in range(int(order["connections"])):
        connection = socket.create_connection(("127.0.0.1", int(order["port"])))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections.append(connection)
    late = now() > begin
    if order.get("rate"):
        offered, done, taken = open_loop(connections[0], begin, end, order["rate"])
    else:
        done, taken = closed_loop(connections, begin, end)
        offered = done
    for connection in connections:
        connection.close()
    ordered = sorted(taken)
    p99 = ordered[len(ordered) * 99 // 100] if ordered else None
    return {"offered": offered, "done": done, "p99_ns": p99, "late": late}


def main() -> None:
    """Greet, then play one window a line."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1)  # else each short sleep takes 50 µs more
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
