"""Moved away, not gone: an asyncio server that computes in `asyncio.to_thread`.

Each request costs some milliseconds of pure Python. In a worker thread it no longer blocks the
event loop's code, but it still holds the GIL, so the loop waits all the same: see who makes
MainThread wait.

    gilscope record python examples/asyncio_to_thread.py
"""

import argparse
import asyncio
import sys
import time


def compute(line):
    return sum(number * number % 7 for number in range(50_000)) + len(line)


async def serve(reader, writer):
    async for line in reader:
        answer = await asyncio.to_thread(compute, line)
        writer.write(b"%d\n" % answer)
        await writer.drain()
    writer.close()


async def visitor(port, end):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = 0
    while answers == 0 or time.perf_counter() < end:
        writer.write(b"how much?\n")
        await reader.readline()
        answers += 1
    writer.close()
    return answers


async def visit(port, seconds, visitors):
    """A process of its own, so that it shares no GIL with the server."""
    start = time.perf_counter()
    answers = await asyncio.gather(*(visitor(port, start + seconds) for _ in range(visitors)))
    print(f"{sum(answers) / (time.perf_counter() - start):.0f} requests/s")


async def run_server(options):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    client = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--client", port, *options
    )
    code = await client.wait()
    server.close()
    if code:
        raise SystemExit(code)


def main():
    parser = argparse.ArgumentParser(description="an asyncio server that computes in threads")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--visitors", type=int, default=4)
    parser.add_argument("--client", type=int, metavar="PORT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.client is not None:
        asyncio.run(visit(args.client, args.seconds, args.visitors))
    else:
        asyncio.run(run_server(["--seconds", str(args.seconds), "--visitors", str(args.visitors)]))


if __name__ == "__main__":
    main()
