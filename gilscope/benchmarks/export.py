"""What writing and reading a trace costs: `gilscope bench export`.

Measures on a synthetic recording (benchmarks/synthetic.py). An *event* is gilscope's; a *packet* is
what Perfetto counts as an event (a slice's begin or end, an instant): an event is about two.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gilscope.child import output_of

if TYPE_CHECKING:
    from gilscope.trace.schema import EventSource

HELP = "measure how fast traces are written and read, and how large they are"

_MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gilscope bench export`."""
    parser.add_argument(
        "--events", type=int, default=1_000_000, metavar="N", help="events a run (default: 1000000)"
    )
    parser.add_argument(
        "--many", type=int, default=50_000_000, metavar="N",
        help="events of the run whose memory is compared (default: 50000000)",
    )  # fmt: skip
    parser.add_argument(
        "--runs", type=int, default=5, metavar="N", help="runs of each measurement (default: 5)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and print. Raises UsageError for counts that are too small."""
    from gilscope.errors import UsageError  # noqa: PLC0415

    if args.events < 1000 or args.many < 1000 or args.runs < 1:
        raise UsageError("bench export needs at least 1000 events and one run")
    result = measure(args.events, args.many, args.runs)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)
    return 0


def measure(n_events: int, n_many: int, runs: int) -> dict[str, Any]:
    """Measure everything; rates are in events or packets a second, sizes in bytes."""
    from gilscope.benchmarks.synthetic import SyntheticSource  # noqa: PLC0415 - numpy
    from gilscope.perfetto.writer import GZIP_LEVEL, write_trace  # noqa: PLC0415 - perfetto

    source = SyntheticSource(n_events)

    with tempfile.TemporaryDirectory(prefix="gilscope-bench-") as folder:
        plain, packed = Path(folder, "bench.pftrace"), Path(folder, "bench.pftrace.gz")
        n_packets, _ = _encode(source)
        encode = _rates(n_packets, runs, lambda: _encode(source)[1])
        write = _rates(n_events, runs, lambda: _timed(lambda: write_trace(source, plain)))
        write_gzip = _rates(n_events, runs, lambda: _timed(lambda: write_trace(source, packed)))
        decode = _rates(n_packets, runs, lambda: _decode(plain))
        read = _rates(n_events, runs, lambda: _timed(lambda: _read(plain)))
        read_gzip = _rates(n_events, runs, lambda: _timed(lambda: _read(packed)))
        summarised = _rates(n_events, runs, lambda: _timed(lambda: _summarise(plain)))
        sizes = {"plain": plain.stat().st_size, "gzip": packed.stat().st_size}
    return {
        "schema": 1,
        "events": n_events,
        "packets": n_packets,
        "gzip_level": GZIP_LEVEL,
        "encode_packets_per_s": encode,
        "decode_packets_per_s": decode,
        "write_events_per_s": write,
        "write_gzip_events_per_s": write_gzip,
        "read_events_per_s": read,
        "read_gzip_events_per_s": read_gzip,
        "summary_events_per_s": summarised,
        "bytes_per_packet": {name: size / n_packets for name, size in sizes.items()},
        "bytes_per_event": {name: size / n_events for name, size in sizes.items()},
        "export_peak_bytes": {str(n): _peak_memory(n) for n in (n_events, n_many)},
    }


def _rates(count: int, runs: int, seconds: Callable[[], float]) -> dict[str, float]:
    """Median and range of `count` a second over some runs."""
    rates = sorted(count / seconds() for _ in range(runs))
    return {"median": rates[len(rates) // 2], "min": rates[0], "max": rates[-1]}


def _timed(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _encode(source: EventSource) -> tuple[int, float]:
    """Encode to memory: packets, and seconds in the encoder alone (no file, no gzip)."""
    import numpy as np  # noqa: PLC0415

    from gilscope.perfetto.codec import Encoder, EncodeStatus  # noqa: PLC0415
    from gilscope.perfetto.details import Details  # noqa: PLC0415

    out = np.empty(_MIB, dtype=np.uint8)
    packets, seconds = 0, 0.0
    details = Details(source.metadata)
    with Encoder(source.metadata) as encoder:
        for batch in source.batches():
            rest, status = batch, EncodeStatus.FULL
            while status is not EncodeStatus.DONE:
                begin = time.perf_counter()
                status, result = encoder.encode(rest, out)
                if status is EncodeStatus.DETAIL:
                    encoder.detail(result.detail, details.parts(result.detail))
                seconds += time.perf_counter() - begin
                packets += result.packets
                rest = rest[result.consumed :]
    return packets, seconds


def _decode(path: Path) -> float:
    """Seconds to decode a whole file that lies in memory, hot packets alone."""
    import numpy as np  # noqa: PLC0415
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (  # noqa: PLC0415
        TracePacket,
    )

    from gilscope.perfetto import layout  # noqa: PLC0415
    from gilscope.perfetto.codec import Decoder, DecodeStatus  # noqa: PLC0415
    from gilscope.perfetto.reader import open_trace  # noqa: PLC0415
    from gilscope.trace.schema import EVENT_DTYPE  # noqa: PLC0415

    metadata = open_trace(path).metadata
    data = np.fromfile(path, dtype=np.uint8)
    room = np.zeros(1 << 16, dtype=EVENT_DTYPE)
    seconds = 0.0
    with Decoder(metadata) as decoder:
        status = DecodeStatus.FULL
        while status is not DecodeStatus.NEED_INPUT:
            begin = time.perf_counter()
            status, result = decoder.decode(data, room)
            seconds += time.perf_counter() - begin
            if status is DecodeStatus.RARE:
                first = result.packet_offset
                body = data[first : first + result.packet_bytes].tobytes()
                sequence = layout.read_sequence(metadata, TracePacket.FromString(body))
                if sequence is not None:
                    decoder.introduce(*sequence, metadata.start_ns)
            data = data[result.consumed :]
    return seconds


def _read(path: Path) -> None:
    from gilscope.perfetto.reader import open_trace  # noqa: PLC0415

    for _ in open_trace(path).batches():
        pass


def _summarise(path: Path) -> None:
    import gilscope  # noqa: PLC0415
    from gilscope.analysis.summary import summarise  # noqa: PLC0415

    summarise(gilscope.read(path))


def _peak_memory(n_events: int) -> int:
    """Peak resident bytes of a process that exports so many events (to /dev/null)."""
    code = f"from gilscope.benchmarks import export; export._print_peak({n_events})"
    return int(output_of([sys.executable, "-c", code]).stdout)


def _print_peak(n_events: int) -> None:
    from gilscope.benchmarks.synthetic import SyntheticSource  # noqa: PLC0415
    from gilscope.perfetto.writer import write_trace  # noqa: PLC0415

    write_trace(SyntheticSource(n_events), Path("/dev/null"))
    # Not getrusage: its peak is that of the parent, if that was larger when it forked.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)


def _show(result: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    def millions(name: str) -> tuple[str, str]:
        rate = result[name]
        return (
            f"{rate['median'] / 1e6:.1f} M/s",
            f"{rate['min'] / 1e6:.1f} to {rate['max'] / 1e6:.1f}",
        )

    def size(per: str) -> tuple[str, str]:
        sizes = result[f"bytes_per_{per}"]
        return f"{sizes['plain']:.2f} B", f"gzip -{result['gzip_level']}: {sizes['gzip']:.2f} B"

    table = Table(title=f"{result['events']:,} events, {result['packets']:,} packets of Perfetto")
    for column, justify in (("", "left"), ("median", "right"), ("spread, or packed", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for label, name in (
        ("packets encoded", "encode_packets_per_s"),
        ("packets decoded", "decode_packets_per_s"),
        ("events written to a file", "write_events_per_s"),
        ("events written, gzip", "write_gzip_events_per_s"),
        ("events read from a file", "read_events_per_s"),
        ("events read, gzip", "read_gzip_events_per_s"),
        ("events from a file to its summary", "summary_events_per_s"),
    ):
        table.add_row(label, *millions(name))
    table.add_row("size of a packet", *size("packet"))
    table.add_row("size of an event", *size("event"))
    for events, peak in result["export_peak_bytes"].items():
        table.add_row(f"peak memory, {int(events):,} events", f"{peak / _MIB:.0f} MiB", "")
    Console().print(table)
