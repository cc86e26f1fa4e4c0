"""One thread computes, alone."""

# /// verdict
# kind = "nothing"
# ///

import time

end = time.monotonic() + 1.0
while time.monotonic() < end:
    sum(i * i for i in range(1_000))
