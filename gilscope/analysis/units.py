"""Numbers for people: durations in units that adapt, shares."""

from __future__ import annotations

from gilscope import safe_text

escaped = safe_text.escaped  # names are told beside numbers
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))


def duration(ns: int) -> str:
    """At least two significant digits: `4.9 ms`, `38 µs`, `310 ns`, `12.4 s`."""
    if abs(ns) >= 99_950_000_000:
        return f"{ns / 1e9:,.0f} s"
    for size, unit in _UNITS:
        if abs(ns) >= 0.9995 * size:
            value = ns / size
            return f"{value:.0f} {unit}" if abs(value) >= 99.5 else f"{value:.3g} {unit}"
    return f"{ns} ns"


def percent(part: int, whole: int) -> str:
    """`98 %`, `0.3 %`; what is there is never shown as 0 %, nor what is short of all as 100 %."""
    if not part or not whole:
        return "0 %"
    share = 100 * part / whole
    if share < 0.1:
        return "<0.1 %"
    if share < 9.95:
        return f"{share:.1f} %"
    return ">99 %" if share >= 99.5 and part < whole else f"{share:.0f} %"


def counted(number: int, noun: str) -> str:
    """`1 thread`, `2 processes`, `1,234 events`."""
    ending = "" if number == 1 else "es" if noun.endswith(("s", "ch")) else "s"
    return f"{number:,} {noun}{ending}"
