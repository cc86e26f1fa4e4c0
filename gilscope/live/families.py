"""The metrics, by the names that Prometheus's conventions give them, and their text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from gilscope.live.totals import Group

_S = 1e9  # ns

Samples = Iterable[tuple[dict[str, str], float]]  # labels beside those of the group; values


class Family(NamedTuple):
    """One metric. A counter's name ends with `_total` where it is written."""

    name: str
    otel_name: str
    unit: str  # as OpenTelemetry writes it
    is_counter: bool
    help: str
    samples: Callable[[Group], Samples]


def _waits(group: Group) -> Samples:
    return (
        ({"kind": "io"}, group.sums.io_wait_ns / _S),
        ({"kind": "cpu"}, group.sums.cpu_wait_ns / _S),
    )


FAMILIES = (
    Family(
        "gilscope_gil_held_seconds",
        "gilscope.gil.held.time",
        "s",
        True,
        "Time for which threads held the GIL.",
        lambda group: (({}, group.sums.held_ns / _S),),
    ),
    Family(
        "gilscope_gil_wait_seconds",
        "gilscope.gil.wait.time",
        "s",
        True,
        "Time for which threads waited for the GIL; io: after they gave it up by themselves, "
        "cpu: after another had asked for it.",
        _waits,
    ),
    Family(
        "gilscope_gil_made_wait_seconds",
        "gilscope.gil.made_wait.time",
        "s",
        True,
        "Time for which threads held the GIL while others waited; of holds that are over.",
        lambda group: (({}, group.sums.made_wait_ns / _S),),
    ),
    Family(
        "gilscope_gil_acquires",
        "gilscope.gil.acquires",
        "{acquire}",
        True,
        "How often threads took the GIL.",
        lambda group: (({}, group.sums.acquires),),
    ),
    Family(
        "gilscope_gil_contended_acquires",
        "gilscope.gil.contended_acquires",
        "{acquire}",
        True,
        "How often threads had to wait for it.",
        lambda group: (({}, group.sums.contended),),
    ),
    Family(
        "gilscope_gil_hand_overs",
        "gilscope.gil.hand_overs",
        "{hand_over}",
        True,
        "How often threads took it where another thread had it before.",
        lambda group: (({}, group.sums.hand_overs),),
    ),
    Family(
        "gilscope_gil_longest_wait_seconds",
        "gilscope.gil.longest_wait",
        "s",
        False,
        "The longest wait for the GIL that ended since the last reading.",
        lambda group: (({}, group.longest_wait_ns / _S),),
    ),
    Family(
        "gilscope_gil_waiting_threads",
        "gilscope.gil.waiting_threads",
        "{thread}",
        False,
        "Threads that wait for the GIL at this moment.",
        lambda group: (({}, group.waiting),),
    ),
    Family(
        "gilscope_threads",
        "gilscope.threads",
        "{thread}",
        False,
        "Threads that live.",
        lambda group: (({}, group.threads),),
    ),
)


def labels_of(group: Group) -> dict[str, str]:
    """Of a group's samples."""
    return {"process": group.process, "thread": group.thread}


def exposition(groups: list[Group]) -> str:
    """Prometheus's text format, version 0.0.4."""
    return "".join(line + "\n" for line in _lines(groups))


def _lines(groups: list[Group]) -> Iterator[str]:
    for family in FAMILIES:
        name = family.name + ("_total" if family.is_counter else "")
        yield f"# HELP {name} {family.help}"
        yield f"# TYPE {name} {'counter' if family.is_counter else 'gauge'}"
        for group in groups:
            for more, value in family.samples(group):
                labels = {**labels_of(group), **more}
                told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
                yield f"{name}{{{told}}} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
