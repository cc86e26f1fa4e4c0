"""Names of threads that were there before the probe, read from outside.

From 3.14 on the kernel has them too, cut to 15 characters.
"""

from __future__ import annotations

from gilscope.live.names import Names
from gilscope.live.objects import Objects
from gilscope.live.runtime import Runtime


def names_of(runtime: Runtime) -> dict[int, str]:
    """The number of each thread that has a name, as its process knows it, → the name. What changes
    meanwhile is left out.
    """
    found = {}
    names = Names(runtime, Objects(runtime.memory, runtime.layout))
    by_interpreter: dict[int, dict[int, str]] = {}
    for state in runtime.thread_states():
        at = state.interpreter.address
        if at not in by_interpreter:
            by_interpreter[at] = names.of(state.interpreter)
        name = by_interpreter[at].get(state.ident)
        if state.tid and name and not name.startswith("Dummy-"):
            found[state.tid] = name
    return found
