"""An ASGI application that computes in threads: `asyncio.to_thread`."""

import asyncio
import os
import threading
import time


def compute():
    total = sum(number * number for number in range(5_000))
    return f"{total} stamp {os.getpid()} {threading.get_native_id()} {time.monotonic_ns()}\n"


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = (await asyncio.to_thread(compute)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
