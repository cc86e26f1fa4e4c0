"""Run one command under a policy, unrecorded.

The probe needs no rings to schedule. It is given some all the same, stopped before they begin: in
them each process says which interpreter it found, so that a program that could not be scheduled can
be told from one that was.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from gilscope.errors import RecordingError
from gilscope.recorder import launch
from gilscope.recorder.diagnose import why_no_gil
from gilscope.recorder.policy import CLASSIC, Choice
from gilscope.recorder.preload import preload
from gilscope.recorder.record import environment, say
from gilscope.recorder.session import LEAST_BYTES, Session


def run(command: Sequence[str], policy: Choice) -> int:
    """Run the command and what it starts under `policy`; returns its exit code.

    Raises UsageError for a command that cannot be run, and as `preload` does.
    """
    try:
        session = Session(LEAST_BYTES)
    except RecordingError:  # no room: whether it is scheduled cannot be told, that is all
        variables = dict(os.environ)
        preload(variables)
        policy.set(variables)
        launch.become(command, variables)
    try:
        session.stop()
        with launch.signals_held():
            pid = launch.spawn(command, environment(session, policy), session.begin)
            exit_code = launch.wait(pid, session.tick) or 0
        session.tick()  # it collects what processes there were
        if policy.name != CLASSIC and (why := why_no_gil(command, session.images)):
            say(f"the GIL was not scheduled: {why}")
    finally:
        session.discard()
    return exit_code
