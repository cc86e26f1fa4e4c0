"""Starts an ipykernel through jupyter_client, runs cells in it, prints what they answer."""

import sys

from jupyter_client.manager import KernelManager

CELLS = [
    "import os, threading, time",
    "print(6 * 7)",
    "print('stamp', os.getpid(), threading.get_native_id(), time.monotonic_ns())",
    "t = [threading.Thread(target=lambda: sum(range(10**6)), name=f'cell-{i}') for i in range(3)]",
    "[x.start() for x in t]; [x.join() for x in t]; print('joined')",
    "1 / 0",
    "print('stamp', os.getpid(), threading.get_native_id(), time.monotonic_ns())",
]

manager = KernelManager()
manager.kernel_spec.argv[0] = sys.executable
manager.start_kernel()
client = manager.blocking_client()
client.start_channels()
client.wait_for_ready(timeout=60)


def show(message):
    content = message["content"]
    if message["msg_type"] == "stream":
        print(content["text"], end="", flush=True)
    elif message["msg_type"] == "error":
        print(content["ename"], flush=True)


for cell in CELLS:
    answer = client.execute_interactive(cell, timeout=60, output_hook=show, stop_on_error=False)
    print(answer["content"]["status"], flush=True)
client.stop_channels()
manager.shutdown_kernel()
print("over")
