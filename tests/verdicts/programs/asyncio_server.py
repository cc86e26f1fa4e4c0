"""An asyncio echo server in one thread, its client in another; a third prepares statistics."""

# /// verdict
# kind = "convoy"
# thread = ["loop", "client"]
# value_ms = [300, 1400]
# ///

import asyncio
import socket
import threading
import time


async def answer(reader, writer):
    while message := await reader.read(100):
        writer.write(message)
        await writer.drain()
    writer.close()


async def serve(ready, done):
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    ready.append(server.sockets[0].getsockname())
    while not done.is_set():
        await asyncio.sleep(0.01)
    server.close()


def client(address, end):
    with socket.create_connection(address) as connection:
        while time.monotonic() < end:
            connection.sendall(b"x" * 20)
            connection.recv(100)


def statistics(end):
    counts = {}
    while time.monotonic() < end:  # CULPRIT
        for word in "the quick brown fox jumps over the lazy dog".split() * 50:  # CULPRIT
            counts[word] = counts.get(word, 0) + 1  # CULPRIT


ready, done = [], threading.Event()
loop = threading.Thread(target=lambda: asyncio.run(serve(ready, done)), name="loop")
loop.start()
while not ready:
    time.sleep(0.005)
end = time.monotonic() + 1.2
threads = [
    threading.Thread(target=client, args=(ready[0], end), name="client"),
    threading.Thread(target=statistics, args=(end,), name="statistics"),
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
done.set()
loop.join()
