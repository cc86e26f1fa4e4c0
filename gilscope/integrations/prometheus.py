"""Counters for prometheus-client, read whenever it collects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gilscope.extras import require
from gilscope.live.families import FAMILIES, labels_of
from gilscope.live.totals import Group

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric


class Collector:
    """What a registry asks for metrics."""

    def __init__(self, groups: Callable[[], list[Group]]) -> None:
        self._groups = groups

    def describe(self) -> list[Metric]:
        """Nothing, so that registering reads nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families, of one reading."""
        from prometheus_client.core import (  # noqa: PLC0415
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        groups = self._groups()
        for family in FAMILIES:
            make = CounterMetricFamily if family.is_counter else GaugeMetricFamily
            metric: Metric = make(family.name, family.help)
            suffix = "_total" if family.is_counter else ""
            for group in groups:
                for more, value in family.samples(group):
                    metric.add_sample(family.name + suffix, {**labels_of(group), **more}, value)
            yield metric


def register(groups: Callable[[], list[Group]], registry: CollectorRegistry | None) -> None:
    """Raises InstallationError without prometheus-client."""
    require("prometheus", "prometheus_client")
    from prometheus_client import REGISTRY  # noqa: PLC0415

    (REGISTRY if registry is None else registry).register(Collector(groups))
