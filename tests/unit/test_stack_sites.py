"""Which line of a stack is the user's."""

from __future__ import annotations

import pytest

from gilscope.trace.schema import Stack
from gilscope.trace.stacks import Site, site

LIBRARY = "/usr/lib/python3.13"
Row = tuple[str, str, int]  # file, function, line
USER: Row = ("/app/main.py", "renew", 17)
MANAGER: Row = ("/app/table.py", "Table.revision", 116)
EXIT: Row = (f"{LIBRARY}/contextlib.py", "_GeneratorContextManager.__exit__", 148)
RELEASE: Row = (f"{LIBRARY}/threading.py", "Semaphore.release", 9)
CALLBACK: Row = (f"{LIBRARY}/contextlib.py", "ExitStack.callback.<locals>._exit_wrapper", 8)


@pytest.mark.parametrize(
    ("path", "own", "inside"),
    [
        ([USER], USER, None),
        ([USER, RELEASE], USER, "python3.13/threading.py:9 Semaphore.release"),
        ([USER, EXIT, MANAGER], USER, "app/table.py:116 Table.revision"),
        ([USER, EXIT, MANAGER, RELEASE], USER, "python3.13/threading.py:9 Semaphore.release"),
        ([USER, EXIT, MANAGER, EXIT, MANAGER], USER, "app/table.py:116 Table.revision"),
        ([EXIT, MANAGER], MANAGER, None),
        ([USER, CALLBACK, MANAGER], MANAGER, None),
        ([RELEASE], RELEASE, None),
    ],
)
def test_the_innermost_frame_of_the_user(path: list[Row], own: Row, inside: str | None) -> None:
    """Leaf last. A context manager that is a generator runs for who has the `with`."""
    stacks = [
        Stack(number, number - 1 if number else None, *row, row[0].startswith(LIBRARY))
        for number, row in enumerate(path)
    ]
    file, function, line = own
    assert site(stacks, len(path) - 1) == Site(file, line, function, inside)
