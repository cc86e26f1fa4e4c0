"""Holds and waits that are all short."""

import time

end = time.time() + 0.3
while time.time() < end:
    time.sleep(0.0001)
print("done")
