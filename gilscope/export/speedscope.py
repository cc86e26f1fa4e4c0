"""The file format of speedscope (https://www.speedscope.app): one sampled profile for the time that
the GIL was held, one for the waiting that this caused. Weights are nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gilscope import __version__
from gilscope.export.frames import Burnt, Frame

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
HELD, WAITING = "GIL held", "waiting that holds caused"


def speedscope(stacks: Iterable[Burnt], name: str) -> dict[str, Any]:
    """The file as a dictionary, ready for `json.dumps`."""
    numbers: dict[Frame, int] = {}
    rows = sorted(stacks, key=lambda stack: stack.frames[0].name)
    samples = [
        [numbers.setdefault(frame, len(numbers)) for frame in stack.frames] for stack in rows
    ]
    return {
        "$schema": SCHEMA,
        "exporter": f"gilscope {__version__}",
        "name": name,
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(frame) for frame in numbers]},
        "profiles": [
            _profile(HELD, samples, [stack.held_ns for stack in rows]),
            _profile(WAITING, samples, [stack.caused_ns for stack in rows]),
        ],
    }


def _frame(frame: Frame) -> dict[str, Any]:
    facts = {"name": frame.name, "file": frame.file, "line": frame.line}
    return {key: value for key, value in facts.items() if value is not None}


def _profile(name: str, samples: list[list[int]], weights: list[int]) -> dict[str, Any]:
    kept = [(sample, ns) for sample, ns in zip(samples, weights, strict=True) if ns]
    return {
        "type": "sampled",
        "name": name,
        "unit": "nanoseconds",
        "startValue": 0,
        "endValue": sum(ns for _, ns in kept),
        "samples": [sample for sample, _ in kept],
        "weights": [ns for _, ns in kept],
    }
