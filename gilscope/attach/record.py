"""Record a process that runs already."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gilscope import __version__
from gilscope.attach.blob import Request, stub
from gilscope.attach.place import Place, place_of
from gilscope.attach.refuse import alone, refuse_unknown
from gilscope.attach.tree import Tree, descendants
from gilscope.live.memory import explain
from gilscope.recorder import launch
from gilscope.recorder.beside import Beside
from gilscope.recorder.course import Course
from gilscope.recorder.kernel import Kernel
from gilscope.recorder.notes import Notes
from gilscope.recorder.options import Options
from gilscope.recorder.policy import Choice
from gilscope.recorder.record import Recorded, say, trace_name
from gilscope.recorder.session import Session

_PERIOD_S = 0.001  # while the process is waited for


def command_of(pid: int) -> tuple[str, ...]:
    """The words of a process's command line. Raises NotAttachable."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError as error:
        raise explain(pid, error) from error
    return tuple(map(os.fsdecode, words)) or ("?",)


@dataclass(frozen=True)
class Wish:
    """What to record, and how; `beside` and `trace` as for `record`."""

    pid: int
    options: Options
    policy: Choice | None = None
    stacks: str = ""  # as GILSCOPE_STACKS_US
    beside: Callable[[Session, int], Beside] | None = None
    trace: Path | None = None
    tell: Callable[[str], None] = say  # gets a line when it has begun

    def request(self, rings: Path) -> Request:
        """The same for the probe."""
        policy = self.policy
        grace = "" if policy is None or policy.grace_us is None else str(policy.grace_us)
        return Request(str(rings), self.stacks, policy.name if policy else "", grace)


def attach(wish: Wish) -> Recorded:
    """Record a process and its children, until it ends, the duration is over, or gilscope is asked
    to end; then all of them are as before.

    Raises NotAttachable, with the process untouched.
    """
    refuse_unknown(wish.pid)
    stub()
    with alone(wish.pid):
        options = wish.options
        command = command_of(wish.pid)
        place = place_of(wish.pid)
        try:
            reuse = options.keep is not None
            session = Session(
                options.ring_bytes, options.follow, reuse, place.directory, place.remove_rings
            )
            try:
                return _attach(session, place, wish, command)
            except BaseException:
                session.discard()
                raise
        except BaseException:
            place.close()
            raise


def _attach(session: Session, place: Place, wish: Wish, command: tuple[str, ...]) -> Recorded:
    pid, options = wish.pid, wish.options
    notes = Notes(
        command=command,
        gilscope=__version__,
        policy=wish.policy.notes() if wish.policy else None,
        limit=session.limit,
    )
    notes.write(session.directory)
    session.begin(pid)
    session.tick()
    _open_to(session, pid)
    writer: Beside | None = None
    tree: Tree | None = None
    kernel = Kernel(session, options.sched, say)
    with launch.signals_held():
        try:
            if options.delay:
                session.pause()
            kernel.join(lambda: (pid, *(descendants(pid) if options.follow else ())))
            tree = Tree(session, place, pid, wish.request(place.rings), say, follow=options.follow)
            _come_in(session, tree)
            tree.accepted = True
            # The end is ours: who records is needed until all have been let go of.
            endless = options._replace(duration=None)
            course = Course(session, endless, wish.trace or trace_name(command, pid), say)
            writer = wish.beside(session, pid) if wish.beside else None
            if tree.sleeps:
                wish.tell(f"all threads of process {pid} sleep; recording begins when one wakes")
            else:
                wish.tell(f"process {pid} is recorded; Ctrl-C ends the recording, not the process")
            launch.watch(pid, _ticks(session, tree, course, kernel, writer, options), course.signal)
        except BaseException:  # whatever it is, the process is to be as before
            _leave(session, tree)
            kernel.finish()
            if writer:
                writer.abandon()
            raise
        stopped = session.stopped
        if not tree.began and not session.recorded():
            say(f"no thread of process {pid} took the GIL meanwhile, so nothing was recorded")
        tree.name()
        _leave(session, tree)
        throttled = kernel.finish()
        course.finish()
        place.close()
    notes = notes._replace(
        root_pid=pid, root_end_ns=time.monotonic_ns(), exit_code=0, stopped=stopped
    )
    if throttled:
        notes = notes._replace(throttled=throttled.times, throttled_ns=throttled.ns)
    notes.write(session.directory)
    return Recorded(session, notes, writer, course, None)


def _ticks(  # noqa: PLR0917
    session: Session,
    tree: Tree,
    course: Course,
    kernel: Kernel,
    writer: Beside | None,
    options: Options,
) -> Callable[[], bool]:
    """What to do every few milliseconds; it returns whether the recording goes on."""
    end = time.monotonic() + options.delay + (options.duration or float("inf"))

    def tick() -> bool:
        session.tick()
        tree.tick()
        kernel.tick()
        course.tick()
        if writer:
            used_bytes = session.used_bytes
            writer.tick(used_bytes + kernel.used_bytes, session.limit_bytes)
            endless = options.max_bytes is None and writer.started
            if endless and used_bytes > session.limit_bytes // 2:
                session.stream()
        return time.monotonic() < end

    return tick


def _come_in(session: Session, tree: Tree) -> None:
    """Until the process is in, or sleeps. Raises NotAttachable."""
    while not (tree.began or tree.sleeps):
        session.tick()
        tree.tick()
        if launch.asked():
            raise KeyboardInterrupt
        time.sleep(_PERIOD_S)


def _leave(session: Session, tree: Tree | None) -> None:
    session.stop_for_good()
    if tree:
        tree.end()


def _open_to(session: Session, pid: int) -> None:
    """Let the process's own user, and nobody else, open the rings. Raises NotAttachable."""
    try:
        owner = os.stat(f"/proc/{pid}")
    except OSError as error:
        raise explain(pid, error) from error
    if owner.st_uid != os.stat(session.path).st_uid:
        session.give_to(owner.st_uid, owner.st_gid)
