"""Has a thread that computes let the GIL go for a moment, from Python 3.14 on.

There the evaluation loop is no function of its own, so seize.c cannot tell where a thread may be
led away from. But the interpreter runs a script for whoever may write into the process (PEP 768):
ours (lets_go.py) sleeps for no time at all, and the thread comes by as any other.
"""

from __future__ import annotations

import struct
from pathlib import Path

from gilscope.attach.writer import Writer
from gilscope.live.runtime import Runtime

SCRIPT = Path(__file__).with_name("lets_go.py")

# Of _Py_DebugOffsets the word from which on these stand: of a PyThreadState its eval_breaker and
# what is for debuggers; of a PyInterpreterState whether they may; of what is for debuggers the
# pending call, the script's path and how long that may be.
_WORDS = {(3, 14): 89, (3, 15): 105}
_OFFSETS = struct.Struct("<6Q")
_MOST = 1 << 20  # no offset is larger
_PLEASE_STOP = 1 << 5  # of eval_breaker


def ask(runtime: Runtime, writer: Writer, state: int, script: Path) -> int | None:
    """The thread of this PyThreadState is to run the script, as it knows its path; where that
    stands written, for `take_back`. None: it cannot be asked, or something else is asked of it
    already.
    """
    memory = runtime.memory
    first = _WORDS.get(runtime.python.version)
    one = next((one for one in runtime.thread_states() if one.address == state), None)
    if first is None or one is None:
        return None
    data = memory.read(runtime.python.runtime.address + 8 * first, _OFFSETS.size)
    offsets = _OFFSETS.unpack(data or bytes(_OFFSETS.size))
    breaker, support, allowed, pending, path, room = offsets
    text = bytes(script) + b"\0"
    if not data or max(offsets) > _MOST or not 0 < len(text) <= room:
        return None
    if memory.word(one.interpreter.address + allowed) != 1:
        return None
    at = int(state + support + pending)
    if memory.word(at) != 0 or memory.read(state + breaker, 1) != b"\0":
        return None
    writer.write(state + support + path, text)
    writer.word(at, 1)
    writer.write(state + breaker, bytes((_PLEASE_STOP,)))
    return at


def take_back(writer: Writer, at: int) -> None:
    """Nothing is asked any more."""
    writer.word(at, 0)
