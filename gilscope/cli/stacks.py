"""`gilscope stacks`: what each thread of a process does and waits for now."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from gilscope.errors import UsageError
from gilscope.safe_text import escaped

if TYPE_CHECKING:
    from gilscope.live.frames import Frame
    from gilscope.live.picture import Picture
    from gilscope.live.threads import Thread
    from gilscope.live.waits import Wait

HELP = "show what each thread of a process is doing and waiting for now; it only reads"

SCHEMA = 1
_NAME = 60  # characters

# What a thread sleeps in, by the kernel's numbers on x86-64.
_CALLS = {
    **{0: "read", 1: "write", 7: "poll", 23: "select", 35: "nanosleep", 42: "connect"},
    **{43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 61: "wait4"},
    **{73: "flock", 202: "futex", 230: "clock_nanosleep", 232: "epoll_wait", 247: "waitid"},
    **{270: "pselect6", 271: "ppoll", 281: "epoll_pwait", 288: "accept4"},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gilscope stacks`."""
    parser.add_argument("pid", metavar="PID", type=int, help="a process that runs Python")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the picture. Raises NotAttachable for what cannot be read, and UsageError."""
    if args.pid < 1:
        raise UsageError("PID is a process's number, from 1 on")
    from gilscope.live.picture import take  # noqa: PLC0415

    picture = take(args.pid)
    if args.json:
        json.dump(as_json(picture), sys.stdout)
        print()
    else:
        print("\n".join(lines(picture)))
    return 0


# ---- JSON ----------------------------------------------------------------------------------------


def as_json(picture: Picture) -> dict[str, Any]:
    """The document that docs/stacks.md describes."""
    return {
        "schema": SCHEMA,
        "pid": picture.pid,
        "command": list(picture.command),
        "python": picture.python,
        "gils": [
            {
                "holder": next((t.tid for t in _on(picture, at) if t.holds_gil), None),
                "locked": gil.locked,
                "waiters": gil.waiters,
                "switch_interval_ns": gil.interval_us * 1000,
            }
            for at, gil in picture.look.gils.items()
        ],
        "threads": [_thread(picture, thread) for thread in picture.look.threads],
        "deadlocks": [{"threads": [one.tid for one in cycle]} for cycle in picture.deadlocks],
    }


def _on(picture: Picture, address: int) -> list[Thread]:
    """The threads of one GIL."""
    return [
        one
        for one in picture.look.threads
        if one.state.interpreter.gil is not None and one.state.interpreter.gil.address == address
    ]


def _thread(picture: Picture, thread: Thread) -> dict[str, Any]:
    wait = picture.waits.get(thread.state.address)
    return {
        "tid": thread.tid,
        "name": thread.name,
        "interpreter": thread.state.interpreter.id,
        "gil": gil_state(thread),
        "state": thread.kernel,
        "call": _call(thread),
        "waits_for": None if wait is None else _wait(wait),
        "certain": thread.stack.certain,
        "whole": thread.stack.whole,
        "frames": [
            {"file": frame.file, "line": frame.line, "function": frame.function}
            for frame in thread.stack.frames
        ],
    }


def _wait(wait: Wait) -> dict[str, Any]:
    return {
        "kind": wait.kind.value,
        "object": wait.object,
        "name": wait.name,
        "holder": None if wait.holder is None else wait.holder.tid,
        "holder_known_by": None if wait.how is None else wait.how.value,
        "has_time_limit": wait.limited,
    }


def gil_state(thread: Thread) -> str | None:
    """ "holds", "waits", "outside"; None: not known."""
    if thread.holds_gil:
        return "holds"
    if thread.waits_for_gil is None:
        return None
    return "waits" if thread.waits_for_gil else "outside"


def _call(thread: Thread) -> str | None:
    if thread.call is None:
        return None
    return _CALLS.get(thread.call.number, f"system call {thread.call.number}")


# ---- for people ----------------------------------------------------------------------------------


def lines(picture: Picture) -> list[str]:
    """The page, a line each."""
    command = escaped(" ".join(picture.command), 100)
    many = len(picture.look.threads)
    said = [
        f"Process {picture.pid}: {command}",
        f"Python {picture.python}, {many} thread{'' if many == 1 else 's'}. {_gils(picture)}",
    ]
    for number, cycle in enumerate(picture.deadlocks, 1):
        said += ["", f"DEADLOCK{'' if number == 1 else f' {number}'}: {_circle(picture, cycle)}"]
    for thread in sorted(picture.look.threads, key=lambda one: one.tid or 0):
        said += ["", f"{name_of(thread)}: {_does(picture, thread)}"]
        if not thread.steady:
            said.append("    (it runs: these lines are where it was a moment ago)")
        said += [f"    {_frame(frame)}" for frame in thread.stack.frames]
        if not thread.stack.frames:
            said.append("    no Python frames")
        elif not thread.stack.whole:
            said.append("    … (the rest cannot be read)")
    return said


def _gils(picture: Picture) -> str:
    told: list[str] = []
    for address, gil in picture.look.gils.items():
        holder = next((t for t in _on(picture, address) if t.holds_gil), None)
        waiting = sum(bool(t.waits_for_gil) for t in _on(picture, address))
        which = "The GIL" if len(picture.look.gils) == 1 else f"GIL {len(told) + 1}"
        if holder is not None:
            its = f"{name_of(holder)} has it"
        else:
            its = "it is held" if gil.locked else "it is free"
        told.append(f"{which}: {its}, {waiting} wait{'s' if waiting == 1 else ''} for it.")
    return " ".join(told)


def _circle(picture: Picture, cycle: tuple[Thread, ...]) -> str:
    steps = []
    for index, thread in enumerate(cycle):
        holder = cycle[(index + 1) % len(cycle)]
        wait = picture.waits[thread.state.address]
        at = f" in {_frame(thread.stack.frames[0])}" if thread.stack.frames else ""
        limit = ", for some time" if wait.limited else ""
        steps.append(f"{name_of(thread)} waits for {what(wait)}, {_has(wait, holder)}{at}{limit}")
    return ";\n    ".join(steps)


def _has(wait: Wait, holder: Thread) -> str:
    if wait.kind.value == "join":
        return f"which is the end of {name_of(holder)},"
    return f"which {name_of(holder)} has,"


def _does(picture: Picture, thread: Thread) -> str:
    wait = picture.waits.get(thread.state.address)
    has = "has the GIL" if thread.holds_gil else ""
    if wait is not None:
        waits = f"waits for {what(wait)}"
        if wait.holder is not None and wait.kind.value != "join":
            how = " (it is inside its `with`)" if wait.how and wait.how.value == "with" else ""
            waits += f", which {name_of(wait.holder)} has{how}"
        elif wait.kind.value == "lock":
            waits += "; who has it is not known, a Lock does not note it"
        elif wait.kind.value == "gil":
            waits += "; nobody has it just now"
        if wait.limited:
            waits += "; for a limited time"
        return f"{has} and {waits}" if has else waits
    call = _call(thread)
    if call is not None:
        does = f"sleeps in the kernel ({call})"
        return f"{has} and {does}" if has else does
    if thread.kernel in {"T", "t"}:
        return "is stopped" + (f", and {has}" if has else "")
    if has:
        return f"{has} and runs"
    return "runs without the GIL, or is about to wait for it"


def what(wait: Wait) -> str:
    """What is waited for, in words."""
    at = "" if wait.object is None else f" at {wait.object:#x}"
    name = escaped(wait.name, _NAME) if wait.name else None
    return {
        "gil": "the GIL",
        "lock": f"the Lock{at}",
        "rlock": f"the RLock{at}",
        "import": f"the import of {name}" if name else "an import",
        "mutex": f"a mutex of C code{at}",
        "join": f"the end of {name}" if name else "the end of a thread",
        "condition": "a notify",
    }[wait.kind.value]


def name_of(thread: Thread) -> str:
    """Its name and number."""
    name = escaped(thread.name, _NAME) if thread.name else "a thread"
    return f"{name} ({thread.tid if thread.tid is not None else 'tid unknown'})"


def _frame(frame: Frame) -> str:
    line = "?" if frame.line is None else frame.line
    return f"{escaped(frame.function, 100)} in {escaped(frame.file, 200)}:{line}"
