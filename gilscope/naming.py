"""Short names for people: of programs, and of threads whose names differ in numbers alone."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

_NUMBER = re.compile(r"\d+")


def group_of(name: str) -> str:
    """The name with each number replaced by `*`."""
    return _NUMBER.sub("*", name)


def program_name(command: Sequence[str]) -> str:
    """`app` for `python app.py`, `http.server` for `python -m http.server`, else the command's own
    name.
    """
    words = list(command)
    name = os.path.basename(words[0])
    if name.startswith("python"):
        for index, word in enumerate(words[1:], 1):
            if words[index - 1] in ("-X", "-W"):  # they take the next word
                continue
            if word == "-m" and index + 1 < len(words):
                return words[index + 1]
            if word in ("-c", "-"):
                break
            if not word.startswith("-"):
                name = os.path.basename(word)
                break
    return Path(name).stem or "program"
