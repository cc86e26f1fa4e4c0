"""Runs a command as if gilscope were not there: same terminal, same signals, same exit code."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn

from gilscope.errors import UsageError
from gilscope.recorder.patience import Patience

# What a user or a supervisor sends to a command. Blocked here while the command runs and taken one
# by one, so that none is lost between two waits.
_WATCHED = {
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
}
_SENT_BY_KERNEL = 0x80  # si_code of what the terminal sends to the whole foreground group
_TICK_S = 0.02


def spawn(
    command: Sequence[str], environment: Mapping[str, str], ready: Callable[[int], None]
) -> int:
    """Start the command and return its pid; `ready` gets the pid before the program begins.

    Call it with the signals of `signals_held` blocked. Raises UsageError when the command cannot
    be run.
    """
    go_read, go_write = os.pipe()
    error_read, error_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        os.close(error_read)
        _exec_when_told(command, environment, go_read, error_write)
    os.close(go_read)
    os.close(error_write)
    try:
        ready(pid)
    finally:
        os.close(go_write)
    with os.fdopen(error_read, "rb") as pipe:
        failure = pipe.read()
    if failure:
        os.waitpid(pid, 0)
        raise UsageError(_explain(command[0], int(failure)))
    return pid


def become(command: Sequence[str], environment: Mapping[str, str] = os.environ) -> NoReturn:
    """Let the command take this process's place. Raises UsageError when it cannot be run."""
    _undo_handlers()
    try:
        _exec(command, environment)
    except OSError as error:
        raise UsageError(_explain(command[0], error.errno or 0)) from error


def _exec_when_told(
    command: Sequence[str], environment: Mapping[str, str], go: int, error_pipe: int
) -> None:
    """In the child: wait for the go, undo what Python did to signals, and exec."""
    try:
        while os.read(go, 1):
            pass
        _undo_handlers()
        signal.pthread_sigmask(signal.SIG_SETMASK, _original_mask)
        _exec(command, environment)
    except OSError as error:
        os.write(error_pipe, str(error.errno).encode())
    finally:
        os._exit(127)


def _exec(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """As `env` does, which takes a script without `#!` for one of the shell's. Raises OSError."""
    try:
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC or command[0].endswith(".py"):
            raise
    import shutil  # noqa: PLC0415 - hardly ever needed

    script = shutil.which(command[0]) or command[0]
    os.execve("/bin/sh", ["/bin/sh", script, *command[1:]], environment)


def _undo_handlers() -> None:
    """What Python ignores or catches for itself would be inherited, or kill with another code."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _explain(program: str, number: int) -> str:
    reason = os.strerror(number)
    if program.endswith(".py") and os.path.exists(program):
        return f"cannot run {program}: {reason}; did you mean `python {program}`?"
    return f"cannot run {program}: {reason}"


_original_mask: set[signal.Signals] = set()


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold the signals that `wait` passes on.

    Behind it the command is over, and what still comes is meant for gilscope's own work: a request
    to end raises KeyboardInterrupt, so that the user hears where the rings are, and the rest is
    not for gilscope to die of.
    """
    global _original_mask  # noqa: PLW0603 - the child of the fork restores it
    _original_mask = {*signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, _original_mask)


def wait(
    pid: int,
    tick: Callable[[], None],
    patience: Patience | None = None,
    own: Callable[[int], bool] = lambda _: False,
) -> int | None:
    """Wait for the command's end and return its exit code, 128+N for signal N; None: `patience` was
    over before.

    Calls `tick` every few milliseconds. Signals sent to gilscope alone go to the command, but those
    that are gilscope's `own`; those that the terminal sends reach it by themselves.
    """
    changes = select.poll()
    end = _end_of(pid)
    if end is not None:
        changes.register(end, select.POLLIN)
    while True:
        tick()
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            if end is not None:
                os.close(end)
            # The terminal's Ctrl-C that ended the command came here as well.
            for _ in _signals():
                pass
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if patience is not None and patience.over():
            if end is not None:
                os.close(end)
            return None
        changes.poll(_TICK_S * 1000)
        for received in _signals():
            if patience is not None:
                patience.asked(received.si_signo)
            if received.si_code != _SENT_BY_KERNEL and not own(received.si_signo):
                os.kill(pid, received.si_signo)


def watch(pid: int, tick: Callable[[], bool], own: Callable[[int], bool]) -> int | None:
    """Wait for the end of a process that is not ours, with `signals_held`; None: it has ended, or
    `tick`, which is called every few milliseconds, said that it is enough.

    Else the signal that asked gilscope to end; those that are its `own` are not among them.
    """
    changes = select.poll()
    end = _end_of(pid)
    if end is not None:
        changes.register(end, select.POLLIN)
    try:
        while tick():
            ended = changes.poll(_TICK_S * 1000)
            if ended or not os.path.exists(f"/proc/{pid}"):
                return None
            for received in _signals():
                if not own(received.si_signo):
                    return received.si_signo
        return None
    finally:
        if end is not None:
            os.close(end)


def asked() -> int | None:
    """The signal that asked gilscope to end, if one has come; with `signals_held`."""
    return next((received.si_signo for received in _signals()), None)


def poll(until: Callable[[], bool], tick: Callable[[], None]) -> bool:
    """Call `tick` every few milliseconds until `until` holds; False when a signal came first."""
    while not until():
        tick()
        time.sleep(_TICK_S)
        for _ in _signals():
            return False
    return True


def _signals() -> Iterator[signal.struct_siginfo]:
    """The signals that have come and are still held.

    Never waits: a sigtimedwait that SIGSTOP and SIGCONT interrupt at its deadline returns whatever
    was left on CPython's stack (seen on 3.11), an older signal perhaps.
    """
    while (received := signal.sigtimedwait(_WATCHED, 0)) is not None:
        if received.si_signo != signal.SIGCHLD:
            yield received


def _end_of(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends, where the kernel has such."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
