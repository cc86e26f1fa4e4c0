"""From inside: a program that gilscope did not start records itself, from now on.

The program gets the probe and nothing else: no thread, no import of weight. A process beside it
keeps the rings and writes the trace; it starts with the first recording and ends with the program.

Recordings may overlap, in threads or one inside another. The probe writes one; each of them is its
part of it, from its own start to its own stop.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import signal
import sys
import threading
import time
from pathlib import Path

from gilscope import _native
from gilscope.errors import GilscopeError, RecordingError, UsageError

_MAIN = "import sys; sys.path[:] = {path!r}; from gilscope.cli.inside import main; sys.exit(main())"

# enum gs_late_error
_FINE, _IS_PRELOADED, _IS_IN = range(3)
_STATE_PRELOADED = 4  # of enum gs_late_state
_WHY_NOT = {
    _IS_PRELOADED: "this program was started by gilscope, which records or schedules it already",
    _IS_IN: "this process is recorded already, by gilscope attach",
    3: "its Python is not to be found",
    4: "its Python is free-threaded: it has no GIL",
    5: "its GIL is not to be found",
    6: "its calls do not go through slots: its C library is inside",
    8: "a policy is classic or io-priority",
    9: "its Python has a probe of its own, of another version",
    10: "its Python schedules its GIL itself: start it with -X gilscope.policy=…",
}


class _Request(ctypes.Structure):
    """struct gs_late_request."""

    _fields_ = (
        *((name, ctypes.c_char_p) for name in ("rings", "stacks", "policy", "grace")),
        ("python", ctypes.c_void_p),
    )


class _Helper:
    """The process beside the program. Owner: whoever has `_lock`."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        theirs_in, self._input = os.pipe()
        self._output, theirs_out = os.pipe()
        command = [sys.executable, "-I", "-c", _MAIN.format(path=sys.path), str(self.owner)]
        environment = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD",)}
        try:
            pid = os.posix_spawn(
                sys.executable,
                [*command, *sys.orig_argv],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs_in, 0),
                    (os.POSIX_SPAWN_DUP2, theirs_out, 1),
                ],
                setpgroup=0,
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
            )
        except OSError as error:
            raise RecordingError(f"gilscope cannot be started beside: {error.strerror}") from error
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        os.waitpid(pid, 0)  # it leaves a process that is no child of the program's
        self._rest = b""
        self.lives = True

    def ask(self, *words: str) -> str:
        """One line to it, one back. Raises RecordingError.

        Written with the GIL held, into a pipe that is empty: a thread that computes beside this one
        takes the GIL for 5 ms wherever it is given up.
        """
        line = "\t".join(words).encode("utf-8", "surrogateescape") + b"\n"
        try:
            if _libc().write(self._input, line, len(line)) != len(line):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            while b"\n" not in self._rest:
                got = os.read(self._output, 1 << 12)
                if not got:
                    raise OSError("it has ended")
                self._rest += got
        except OSError as error:
            self.lives = False
            raise RecordingError(f"the gilscope beside this program is gone: {error}") from error
        line, _, self._rest = self._rest.partition(b"\n")
        kind, _, text = line.decode("utf-8", "surrogateescape").partition("\t")
        if kind == "error":
            raise RecordingError(text)
        return text

    def close(self) -> None:
        """It ends when nothing more can come."""
        os.close(self._input)
        os.close(self._output)


_lock = threading.RLock()
_helper: _Helper | None = None
_running: list[Recording] = []
_policy: tuple[str, str] = ("", "")
_owner = os.getpid()


class Recording:
    """One that runs; from `start`, to be ended by `stop`, once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pid = os.getpid()
        self._since_ns = 0
        self.events: int | None = None  # in the trace, when it is written

    def __enter__(self) -> Recording:
        self._begin()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _begin(self) -> None:
        global _helper  # noqa: PLW0603 - one a process
        with _lock:
            _forget_parent()
            if not _running:
                _refuse_preloaded()
                if _helper is None:
                    _helper = _Helper()
                rings = _helper.ask("begin")
                try:
                    _come_in(rings)
                except GilscopeError:
                    _helper.ask("discard")
                    raise
            self._since_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            _running.append(self)

    def stop(self) -> None:
        """Ends it and writes its trace. In a fork's child it ends nothing but the child's part of
        its parent's recording. Raises RecordingError, UsageError.
        """
        global _helper  # noqa: PLW0603
        with _lock:
            if self._pid != os.getpid():
                _probe().gilscope_late_end(None)
                return
            if self not in _running:
                raise UsageError(f"{self.path}: this recording has been stopped already")
            first = _running[0] is self
            _running.remove(self)
            assert _helper
            _probe().gilscope_late_names()
            since = "0" if first and not _running else str(self._since_ns)
            try:
                if not _running:
                    _end_rings(_helper)
                ask = "part" if _running else "write"
                self.events = int(_helper.ask(ask, str(self.path), since))
            except RecordingError:
                if not _helper.lives:
                    _helper.close()
                    _helper = None
                raise


def trace(path: str | os.PathLike[str]) -> Recording:
    """For `with`: records this process, and what it forks and starts, into a trace.

    Raises RecordingError or UsageError, when it is entered, where that cannot be.
    """
    target = Path(os.path.abspath(path))
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent}: no such directory for {target.name}")
    return Recording(target)


def start(path: str | os.PathLike[str]) -> Recording:
    """The same until `stop`."""
    recording = trace(path)
    recording._begin()
    return recording


def stop() -> None:
    """Ends the recording of this process that was started last. Raises UsageError."""
    with _lock:
        if not _running or _running[-1]._pid != os.getpid():
            raise UsageError("nothing is recorded: call trace.start before trace.stop")
        _running[-1].stop()


def install(policy: str = "io-priority", grace_us: int | None = None) -> None:
    """Schedules this process's GIL from now on; gilscope.atomic and gilscope.locks work as well.

    Raises UsageError for a policy that does not exist, RecordingError where it cannot be.
    """
    global _policy  # noqa: PLW0603 - one a process
    with _lock:
        _forget_parent()
        if _running:
            raise UsageError("install a policy before, or behind, what is recorded")
        if policy not in ("classic", "io-priority"):
            raise UsageError(f"{policy}: a policy is classic or io-priority")
        _policy = (policy, "" if grace_us is None else str(int(grace_us)))
        _come_in("", _probe().gilscope_late_change)
        if "gilscope._sync" in sys.modules:
            sys.modules["gilscope._sync"].find_probe()
        if "gilscope.scheduling" in sys.modules:
            sys.modules["gilscope.scheduling"]._yield.cache_clear()


def _end_rings(helper: _Helper) -> None:
    """Events end, and the probe goes, whatever became of the helper."""
    try:
        helper.ask("end")
    finally:
        _come_out()


def _refuse_preloaded() -> None:
    """Raises RecordingError before anything is started."""
    late = (ctypes.c_uint32 * 2).in_dll(_probe(), "gilscope_late")
    if late[1] == _STATE_PRELOADED:
        raise RecordingError(f"this process cannot be recorded: {_WHY_NOT[_IS_PRELOADED]}")


def _come_in(rings: str, call: object = None) -> None:
    probe = _probe()
    if call is None:
        call = probe.gilscope_late_change if _policy[0] else probe.gilscope_late_begin
    stacks = os.environ.get("GILSCOPE_STACKS_US", "")
    texts = (text.encode("utf-8", "surrogateescape") for text in (rings, stacks, *_policy))
    python = ctypes.cast(ctypes.pythonapi.PyEval_SaveThread, ctypes.c_void_p)
    error = call(ctypes.byref(_Request(*texts, python)))  # type: ignore[operator]
    if error:
        why = _WHY_NOT.get(error, "its rings cannot be opened")
        raise RecordingError(f"this process cannot be recorded: {why}")


def _come_out() -> None:
    if _policy[0]:
        _come_in("")
    else:
        _probe().gilscope_late_end(None)


def _forget_parent() -> None:
    """In a fork's child the recording is its parent's; it may begin its own."""
    global _helper, _owner  # noqa: PLW0603
    if _owner == os.getpid():
        return
    _owner = os.getpid()
    _probe().gilscope_late_end(None)
    _running.clear()
    if _helper:
        _helper.close()
        _helper = None


@functools.cache
def _libc() -> ctypes.PyDLL:
    """Its calls keep the GIL."""
    libc = ctypes.PyDLL(None, use_errno=True)
    libc.write.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
    libc.write.restype = ctypes.c_ssize_t
    return libc


_loaded: ctypes.PyDLL | None = None


def _probe() -> ctypes.PyDLL:
    """The probe's library, opened late: for itself first, so that it knows, then for `_sync`."""
    global _loaded  # noqa: PLW0603
    if _loaded is None:
        path = str(_native.probe_path())
        try:
            loaded = ctypes.PyDLL(path, mode=os.RTLD_LOCAL | os.RTLD_NOW)
            ctypes.PyDLL(path, mode=os.RTLD_GLOBAL | os.RTLD_NOLOAD | os.RTLD_NOW)
        except OSError as error:
            raise RecordingError(f"gilscope's probe cannot be loaded: {error}") from error
        for name in ("begin", "change", "end"):
            getattr(loaded, f"gilscope_late_{name}").argtypes = [ctypes.c_void_p]
        _loaded = loaded
    return _loaded


@atexit.register
def _end_of_program() -> None:
    """What still runs is written, as at the end of its `with`."""
    if _owner == os.getpid():
        for recording in reversed(list(_running)):
            recording.stop()
