"""Counters as instruments of opentelemetry-api, observed whenever its reader collects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gilscope.extras import require
from gilscope.live.families import FAMILIES, Family, labels_of
from gilscope.live.totals import Group

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation


def observe(groups: Callable[[], list[Group]], meter: Meter) -> None:
    """Raises InstallationError without opentelemetry-api."""
    require("opentelemetry", "opentelemetry")
    for family in FAMILIES:
        make = (
            meter.create_observable_counter if family.is_counter else meter.create_observable_gauge
        )
        callback = _callback(family, groups)
        make(family.otel_name, [callback], unit=family.unit, description=family.help)


def _callback(
    family: Family, groups: Callable[[], list[Group]]
) -> Callable[[CallbackOptions], Iterator[Observation]]:
    from opentelemetry.metrics import Observation  # noqa: PLC0415

    def observations(_: CallbackOptions) -> Iterator[Observation]:
        for group in groups():
            for more, value in family.samples(group):
                yield Observation(value, {**labels_of(group), **more})

    return observations
