"""By which name its user knows a wait for a lock, and whether it is one *for a lock*.

Every wait of a thread but for the GIL ends in a lock of CPython's; the frames of the standard
library above it tell what it is for. Two sorts of waits are told apart by that:

- for a *lock*: something that another thread has and will give back: Lock, RLock, Semaphore (but
  for one that counts what is done: analysis/lock_rows.py), a full queue, an import, a logging
  handler. Who had it made the others wait.
- for an *event*: something that another thread will do: an idle worker in Queue.get, a join, a
  result, a notify. Nothing is wrong with that, however long it takes.

What has no frame of the library that is known is a lock, unless it is a condition.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gilscope.trace.schema import LookFrame, Stack


class Library(NamedTuple):
    """A name, such as `queue.Queue.get`, and whether who waits there waits for an event (None: that
    is not known by its name).

    `made_anew`: on a stock interpreter each wait is for a lock of its own, which is no use to tell.
    """

    name: str
    of_event: bool | None
    made_anew: bool
    for_workers: bool = False  # who waits there waits for threads to begin, or to be done


PICKLING = "pickling for another process"
IMPORT = "import"


LOCK, EVENT = False, True

SEMAPHORE = "threading.Semaphore.acquire"
_ON_CONDITIONS = {SEMAPHORE, "queue.Queue.put"}  # though for a lock


_IDLE = "an idle worker"
_WORK_OF_OTHERS = (
    *("threading.Thread.", "concurrent.futures.", "multiprocessing."),
    *("the begin of", "the end of"),
)


def _for_workers(name: str) -> bool:
    return name.startswith(_WORK_OF_OTHERS)


# By module and the function's own name (up to 3.10 code knows no other). `wait` of threading has
# rules of its own.
_KNOWN: dict[tuple[str, str], Library] = {
    (module, function): Library(
        name, of_event, of_event or name in _ON_CONDITIONS, _for_workers(name)
    )
    for module, function, name, of_event in (
        ("threading", "wait_for", "threading.Condition.wait_for", EVENT),
        ("threading", "acquire", SEMAPHORE, LOCK),
        ("threading", "__enter__", "threading.Condition", LOCK),
        ("threading", "_acquire_restore", "threading.Condition", LOCK),
        ("threading", "join", "threading.Thread.join", EVENT),
        ("threading", "_wait_for_tstate_lock", "threading.Thread.join", EVENT),
        ("threading", "start", "threading.Thread.start", EVENT),
        ("threading", "_shutdown", "the end of the other threads (threading._shutdown)", EVENT),
        ("queue", "get", "queue.Queue.get", EVENT),
        ("queue", "join", "queue.Queue.join", EVENT),
        ("queue", "put", "queue.Queue.put", LOCK),
        ("concurrent.futures._base", "result", "concurrent.futures.Future.result", EVENT),
        ("concurrent.futures._base", "set_result", "a Future's own lock", LOCK),
        ("concurrent.futures._base", "set_exception", "a Future's own lock", LOCK),
        ("concurrent.futures._base", "exception", "concurrent.futures.Future.exception", EVENT),
        ("concurrent.futures._base", "wait", "concurrent.futures.wait", EVENT),
        ("concurrent.futures._base", "as_completed", "concurrent.futures.as_completed", EVENT),
        ("concurrent.futures._base", "result_iterator", "concurrent.futures.Executor.map", EVENT),
        ("concurrent.futures.thread", "_worker", "an idle worker of a ThreadPoolExecutor", EVENT),
        (
            "concurrent.futures.thread",
            "shutdown",
            "concurrent.futures.ThreadPoolExecutor.shutdown",
            EVENT,
        ),
        (
            "concurrent.futures.process",
            "shutdown",
            "concurrent.futures.ProcessPoolExecutor.shutdown",
            EVENT,
        ),
        ("multiprocessing.pool", "get", "multiprocessing.pool.AsyncResult.get", EVENT),
        ("multiprocessing.pool", "wait", "multiprocessing.pool.AsyncResult.wait", EVENT),
        ("multiprocessing.pool", "worker", "an idle worker of a multiprocessing.Pool", EVENT),
        ("multiprocessing.pool", "_handle_workers", "multiprocessing.Pool itself", EVENT),
        ("multiprocessing.pool", "_handle_tasks", "multiprocessing.Pool itself", EVENT),
        ("multiprocessing.pool", "_handle_results", "multiprocessing.Pool itself", EVENT),
        ("multiprocessing.pool", "join", "multiprocessing.Pool.join", EVENT),
        ("multiprocessing.process", "start", "multiprocessing.Process.start", EVENT),
        ("multiprocessing.process", "join", "multiprocessing.Process.join", EVENT),
        ("multiprocessing.queues", "_feed", PICKLING, EVENT),
        ("logging", "acquire", "logging.Handler.acquire", LOCK),
        ("logging", "handle", "logging.Handler.acquire", LOCK),
        ("logging", "_acquireLock", "logging's own lock", LOCK),
    )
}
_IMPORT = Library(IMPORT, LOCK, made_anew=False)
_BEGIN = Library("the begin of a thread", EVENT, made_anew=False, for_workers=True)
# What runs inside of these, the user's own lines too, is told by it.
_INSIDE = {"importlib": IMPORT, "multiprocessing.reduction": PICKLING}
_BEGINNINGS = {
    *("runpy", "multiprocessing.process", "multiprocessing.popen_fork", "multiprocessing.spawn"),
}

_MODULE = re.compile(r"/python3\.\d+/(?P<module>.+?)(?:/__init__)?\.py$|^<frozen (?P<frozen>.+)>$")


class _Above(NamedTuple):
    """Of the frames of the library from the user's code inwards: the outermost that is known, and
    the outermost below which a thread does not begin."""

    known: Library | None = None
    called: Library | None = None
    is_any: bool = False
    gets: bool = False  # an idle worker's frame has called for something to do

    def then(self, module: str, function: str, inner: str) -> _Above:
        """With the next frame inwards; `inner` is what that one calls, of the same module."""
        called, known, gets = self.called, self.known, self.gets
        if not called and not _begins(module, function):
            called = Library(f"{module}.{function}", None, made_anew=False)
        if known and known.name.startswith(_IDLE) and not gets:
            gets = function.rsplit(".", 1)[-1] == "get"
            known = known if gets else None  # it is at work
        return _Above(known or _own(module, function, inner), called, True, gets)

    @property
    def library(self) -> Library | None:
        """What a wait below them is for; None: there are none."""
        return self.known or self.called or (_BEGIN if self.is_any else None)


class Activities:
    """What the stacks of a table were doing in the library. Each frame is looked at once."""

    def __init__(self, table: Sequence[Stack]) -> None:
        """`table`: a recording's stacks; callers stand before what they call."""
        self._table = table
        self._modules: dict[str, str] = {}
        self._above: dict[tuple[int, str], _Above] = {}
        self._inside: list[str | None] = []
        for row in table:
            below = None if row.parent is None else self._inside[row.parent]
            self._inside.append(_inside(self._module(row.file)) or below)

    def library_of(self, leaf: int) -> Library | None:
        """What a wait with this stack is for; None: no frame of the library lies above it.

        The outermost frame that is known, of those between the wait and the user's own code; where
        none is known, the outermost of them, which the user's code called.
        """
        return self._frames_above(leaf, "").library

    def activity_of(self, leaf: int) -> str | None:
        """What of the library the user's line was in with this stack, by the same names; also where
        the line itself runs because its module is being imported, or its object pickled."""
        if inside := self._inside[leaf]:
            return inside
        found = self.library_of(leaf)
        return found.name if found else None

    def _frames_above(self, leaf: int, inner: str) -> _Above:
        """`inner`: what its innermost frame calls."""
        inwards = []
        above = _Above()
        at: int | None = leaf
        while at is not None and (row := self._table[at]).library:
            if (at, inner) in self._above:
                above = self._above[at, inner]
                break
            inwards.append((at, inner))
            parent = row.parent
            module = self._module(row.file)
            same = parent is not None and self._module(self._table[parent].file) == module
            inner = row.function if same and row.function in _CALLED_BY_WAIT else ""
            at = parent
        for at_, inner_ in reversed(inwards):
            row = self._table[at_]
            above = above.then(self._module(row.file), row.function, inner_)
            self._above[at_, inner_] = above
        return above

    def _module(self, file: str) -> str:
        if file not in self._modules:
            self._modules[file] = _module(file)
        return self._modules[file]


def library_above(rows: Iterable[Stack | LookFrame]) -> Library | None:
    """The same of a stack's frames, leaf first."""
    frames = []
    for row in rows:
        if not row.library:
            break
        frames.append((_module(row.file), row.function))
    above = _Above()
    for index in reversed(range(len(frames))):
        module, function = frames[index]
        inner = frames[index - 1][1] if index and frames[index - 1][0] == module else ""
        above = above.then(module, function, inner)
    return above.library


def _own(module: str, function: str, inner: str) -> Library | None:
    """What one frame of the library is known for."""
    name = function.rsplit(".", 1)[-1]
    if (module, name) == ("threading", "wait"):
        return _wait_of_threading(function, inner)
    if module.startswith("importlib."):
        return _IMPORT
    return _KNOWN.get((module, name))


def _begins(module: str, function: str) -> bool:
    """Whether a frame lies below all that a thread or a process does."""
    if module == "threading":
        return function.rsplit(".", 1)[-1] in {"_bootstrap", "_bootstrap_inner", "run"}
    return module in _BEGINNINGS


def is_for_workers(name: str | None) -> bool:
    """Whether who waits in what has this name waits for threads to begin, or to be done."""
    return name is not None and _for_workers(name)


_CALLED_BY_WAIT = {"wait", "_wait"}


def _wait_of_threading(function: str, inner: str) -> Library:
    """Of Condition, Event or Barrier, by the qualified name (from 3.11 on) or by what it calls."""
    if function != "wait":
        return Library(f"threading.{function}", EVENT, made_anew=True)
    if inner == "wait":
        return Library("threading.Event.wait", EVENT, made_anew=True)
    owner = "Barrier" if inner == "_wait" else "Condition"
    return Library(f"threading.{owner}.wait", EVENT, made_anew=True)


def _inside(module: str) -> str | None:
    return _INSIDE.get(module) or _INSIDE.get(module.partition(".")[0])


def _module(file: str) -> str:
    if found := _MODULE.search(file):
        return (found["module"] or found["frozen"]).replace("/", ".")
    return file.rsplit("/", 1)[-1].removesuffix(".py")
