"""Threads that do the same under numbered names: `worker-1`, `worker-2` are `worker-*`."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\d+")


def group_of(name: str) -> str:
    """The name with each number replaced by `*`."""
    return _NUMBER.sub("*", name)
