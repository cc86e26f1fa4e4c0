"""Run by a thread of a program that is attached to (ask.py)."""

import time

time.sleep(0)
