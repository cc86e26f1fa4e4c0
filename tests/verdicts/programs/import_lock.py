"""The event loop imports a module that a background thread is importing."""

# /// verdict
# kind = "import"
# thread = "MainThread"
# value_ms = [400, 1500]
# ci = true
# ///

import asyncio
import sys
import tempfile
import threading
from pathlib import Path

folder = tempfile.TemporaryDirectory()
source = "import time\nfor _ in range(12):\n    time.sleep(0.08)\n    sum(range(100_000))\n"
Path(folder.name, "big_dependency.py").write_text(source)
sys.path.insert(0, folder.name)


def warm_up():
    import big_dependency  # noqa: F401


async def tick():
    while True:
        await asyncio.sleep(0.01)


async def main():
    task = asyncio.create_task(tick())
    threading.Thread(target=warm_up, name="warm-up").start()
    await asyncio.sleep(0.2)
    import big_dependency  # noqa: F401 - the lazy import in a coroutine

    await asyncio.sleep(0.1)
    task.cancel()


asyncio.run(main())
folder.cleanup()
