"""What to call each thread, the same wherever it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from gilscope.safe_text import escaped


def names_of(threads: Iterable[dict[str, Any]]) -> dict[int, str]:
    """By id: the thread's name, with the tid where a name occurs twice in the summary."""
    threads = list(threads)
    count = Counter(thread["name"] for thread in threads)
    return {
        thread["id"]: escaped(thread["name"])
        + (f" {thread['tid']}" if count[thread["name"]] > 1 else "")
        for thread in threads
    }
