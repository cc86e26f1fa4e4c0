"""How the GIL is to be scheduled, as it is told to the probe: by the environment."""

from __future__ import annotations

from typing import Any, NamedTuple

CLASSIC, IO_PRIORITY = "classic", "io-priority"
POLICIES = (CLASSIC, IO_PRIORITY)
GRACE_US = 5  # the probe's default
CONDVARS = ("pthread", "emulated", "futex")

_POLICY, _GRACE = "GILSCOPE_POLICY", "GILSCOPE_GRACE_US"


class Choice(NamedTuple):
    """A policy and its parameter."""

    name: str
    grace_us: int | None = None  # None: the default

    def set(self, variables: dict[str, str]) -> None:
        """Put it into an environment."""
        variables[_POLICY] = self.name
        variables.pop(_GRACE, None)
        if self.grace_us is not None:
            variables[_GRACE] = str(self.grace_us)

    def notes(self) -> dict[str, Any]:
        """For the recording's notes: the fields of schema.Policy that are known beforehand."""
        if self.name == CLASSIC:
            return {"name": CLASSIC}
        grace_us = GRACE_US if self.grace_us is None else self.grace_us
        return {"name": self.name, "grace_ns": grace_us * 1000}
