"""N threads alive at a time; with a second argument, how long that took, to standard error."""

import sys
import threading
import time

threading.stack_size(65536)
go = threading.Event()
wall, cpu = time.perf_counter(), time.process_time()
threads = [threading.Thread(target=go.wait) for _ in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
started = time.perf_counter() - wall
go.set()
for thread in threads:
    thread.join()
print(len(threads), "threads")
if len(sys.argv) > 2:
    print(f"{started:.3f} {time.process_time() - cpu:.3f}", file=sys.stderr)
