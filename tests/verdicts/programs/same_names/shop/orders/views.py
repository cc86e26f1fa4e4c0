"""Requests about orders."""

import time


def handle(end):
    while time.monotonic() < end:
        sum(range(20))
