"""An XML-RPC server beside a nightly report.

The report computes in Python. After each sleep and each system call in which they wait, the
server and its client ask for the GIL again and wait a switch interval. Without the report they
make five times as many calls.
"""

# /// verdict
# kind = "convoy"
# thread = ["rpc", "dashboard"]
# value_ms = [150, 1400]
# ///

import threading
import time
import xmlrpc.client
import xmlrpc.server


def totals(rows):
    summed = {}
    for key, amount in rows:  # CULPRIT
        summed[key] = summed.get(key, 0) + amount * 3 // 2  # CULPRIT
    return summed


def report(end):
    rows = [(i % 97, i) for i in range(4_000)]
    while time.monotonic() < end:
        totals(rows)


def dashboard(address, end):
    with xmlrpc.client.ServerProxy(address) as server:
        while time.monotonic() < end:
            server.open_orders(7)
            time.sleep(0.004)


def main():
    end = time.monotonic() + 1.2
    with xmlrpc.server.SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False) as server:
        server.register_function(lambda shop: shop * 6, "open_orders")
        rpc = threading.Thread(target=server.serve_forever, args=(0.05,), name="rpc")
        address = "http://{}:{}".format(*server.server_address)
        others = [
            threading.Thread(target=dashboard, args=(address, end), name="dashboard"),
            threading.Thread(target=report, args=(end,), name="nightly-report"),
        ]
        rpc.start()
        for thread in others:
            thread.start()
        for thread in others:
            thread.join()
        server.shutdown()
        rpc.join()


if __name__ == "__main__":
    main()
