"""A program forks four times; each child computes alone, and leaves by os._exit."""

# /// verdict
# kind = "nothing"
# ///

import os

children = []
for _ in range(4):
    child = os.fork()
    if not child:
        sum(i * i for i in range(1_000_000))
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
