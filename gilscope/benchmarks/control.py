"""The one-line control that a policy has to beat: `sys.setswitchinterval`.

At equal offered load, the part `--control` of `gilscope bench echo`. Any interval buys latency with
CPU work; the policy is worth having where no interval has both a lower p99 and more CPU work.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from gilscope.benchmarks import chart, harness, windows
from gilscope.benchmarks.harness import CLASSIC, Outcome, Results, Variant, ratios
from gilscope.benchmarks.report import Figure, Report, Row
from gilscope.benchmarks.windows import Window

RATES = (100, 500, 2000)  # requests a second
CPU_THREADS = (1, 2, 4)
INTERVALS_S = (0.005, 0.001, 0.000_2, 0.000_05, 0.000_01)  # the first is CPython's own
_ENOUGH = 100  # requests in a window, for a p99

Setting = tuple[Variant, float]  # and its switch interval, in seconds


def compare(args: argparse.Namespace, variants: Sequence[Variant]) -> Report:
    """Measure all settings at all loads. Raises RecordingError."""
    settings = [
        (variant, interval)
        for variant in variants
        for interval in (INTERVALS_S if variant.policy == CLASSIC else INTERVALS_S[:1])
    ]
    alone = [(v, _alone(args, cpu)) for v in variants if v.policy == CLASSIC for cpu in CPU_THREADS]
    beside = [(v, _beside(args, *load, interval)) for v, interval in settings for load in loads()]
    return tell(args, settings, windows.measure(args, [*alone, *beside]))


def loads() -> list[tuple[int, int]]:
    """Requests a second and computing threads."""
    return [(rate, cpu) for rate in RATES for cpu in CPU_THREADS]


def _alone(args: argparse.Namespace, cpu: int) -> Window:
    return Window(f"{cpu} CPU", args.seconds, {"cpu": cpu})


def _beside(args: argparse.Namespace, rate: int, cpu: int, interval_s: float) -> Window:
    seconds = _seconds(args, rate)
    order = {"connections": 1, "cpu": cpu, "switch_interval_s": interval_s}
    client = {"connections": 1, "rate": rate}
    return Window(_name(rate, cpu, interval_s), seconds, order, client)


def _seconds(args: argparse.Namespace, rate: int) -> float:
    """The length of a window at that rate; that of computing threads alone is `args.seconds`."""
    return float(args.seconds if args.quick else max(args.seconds, _ENOUGH / rate))


def _name(rate: int, cpu: int, interval_s: float) -> str:
    return f"{rate}/s + {cpu} CPU, {interval_s:g} s"


def tell(args: argparse.Namespace, settings: Sequence[Setting], results: Results) -> Report:
    """A row for each load and setting, and for each policy whether some interval beats it."""
    report = Report(
        benchmark="echo",
        title="The policy against other switch intervals",
        command=f"{harness.command_line('echo', args)} --control",
        machine=harness.machine(),
        repeats=args.repeats,
        words=("interpreter", "load", "setting"),
        columns=("answered", "p99", "CPU work"),
    )
    panels: dict[str, dict[str, list[chart.Point]]] = {}
    for classic in (v for v, interval in settings if (v.policy, interval) == (CLASSIC, 0.005)):
        own = [s for s in settings if s[0].interpreter == classic.interpreter]
        for load in loads():
            label = f"{load[0]} requests/s + {load[1]} CPU"
            lines = panels.setdefault(f"{classic.interpreter.name}: {label}", {})
            for setting in own:
                figures = _figures(args, results, classic, load, setting)
                report.rows.append(Row((classic.interpreter.name, label, _label(setting)), figures))
                name = "switch interval" if setting[0].policy == CLASSIC else setting[0].name
                line = lines.setdefault(name, [])
                if figures["p99"].values and figures["CPU work"].values:
                    latency, work = (figures[key].estimate.median for key in ("p99", "CPU work"))
                    line.append(chart.Point(latency, work, _label(setting)))
        for ours in (v for v, _ in own if v.policy != CLASSIC):
            better = beaten_by(results, classic, ours)
            intervals = "" if not better else f" ({', '.join(better)})"
            report.claims.append((
                f"{classic.interpreter.name}: no switch interval has both a lower p99 and more "
                f"CPU work than {ours.name}{intervals}",
                not better,
            ))  # fmt: skip
    report.chart = chart.fronts(f"{report.title}: p99 latency, CPU work", panels, len(CPU_THREADS))
    report.notes = [
        "CPU work: of what the same number of computing threads does alone under classic. An "
        "interval beats a policy where its p99 and its CPU work are better within the repeats, "
        "each with its whole 95 % interval.",
        "Answered: within 100 ms of being due, of those that were due; latency counts from then.",
        windows.placed(args),
    ]
    return report


def _label(setting: Setting) -> str:
    variant, interval_s = setting
    return f"{interval_s * 1e6:g} µs" if variant.policy == CLASSIC else variant.name


def _figures(
    args: argparse.Namespace,
    results: Results,
    classic: Variant,
    load: tuple[int, int],
    setting: Setting,
) -> dict[str, Figure]:
    variant, interval_s = setting
    own = results[variant, _name(*load, interval_s)]
    longer = _seconds(args, load[0]) / args.seconds
    work = ratios(own, results[classic, f"{load[1]} CPU"], "computed")
    return {
        "answered": Figure([_value(x, "done") / max(1, _value(x, "offered")) for x in own]),
        "p99": Figure([x["p99_ns"] for x in own if x["p99_ns"] is not None], "ns"),
        "CPU work": Figure([value / longer for value in work]),
    }


def beaten_by(results: Results, classic: Variant, ours: Variant) -> list[str]:
    """Loads with the intervals that beat the policy there."""
    found = []
    for load in loads():
        policy = results[ours, _name(*load, INTERVALS_S[0])]
        for interval_s in INTERVALS_S:
            other = results[classic, _name(*load, interval_s)]
            # Where nothing was answered or computed, nothing was shown.
            latency = harness.estimate(ratios(other, policy, "p99_ns") or [1])
            work = harness.estimate(ratios(other, policy, "computed") or [1])
            if latency.high < 1 and work.low > 1:
                found.append(f"{_label((classic, interval_s))} at {load[0]}/s + {load[1]} CPU")
    return found


def _value(outcome: Outcome, what: str) -> float:
    value = outcome[what]
    assert value is not None
    return value
