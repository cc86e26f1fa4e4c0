"""The names that a program gave to its threads, as threading knows them."""

from __future__ import annotations

from gilscope.live.layouts import MODULE_DICT
from gilscope.live.objects import Objects
from gilscope.live.runtime import Interpreter, Runtime


class Names:
    """Looks up threading's table of threads."""

    def __init__(self, runtime: Runtime, objects: Objects) -> None:
        self._runtime = runtime
        self._objects = objects

    def of(self, interpreter: Interpreter) -> dict[int, str]:
        """threading.get_ident() → name. Empty where threading is not imported or cannot be read; a
        thread that Python did not start, or that is being started, has none.
        """
        found, keys = {}, dict[int, str | None]()
        for ident, thread in self.threads(interpreter).items():
            name = self._objects.text(self._objects.attributes(thread, keys).get("_name"))
            if name:
                found[ident] = name
        return found

    def threads(self, interpreter: Interpreter) -> dict[int, int]:
        """threading.get_ident() → address of the Thread."""
        module = self._threading(interpreter)
        active = self._find(module, "_active") if module else None
        found = {}
        for key, thread in self._objects.items(active):
            ident = self._objects.integer(key)
            if ident is not None:
                found[ident] = thread
        return found

    def _threading(self, interpreter: Interpreter) -> int | None:
        """Its dictionary."""
        memory = self._runtime.memory
        modules = memory.pointer(interpreter.address + self._runtime.layout.modules)
        module = self._find(modules, "threading") if modules else None
        return memory.pointer(module + MODULE_DICT) if module else None

    def _find(self, dictionary: int | None, name: str) -> int | None:
        for key, value in self._objects.items(dictionary):
            if self._objects.text(key) == name:
                return value
        return None
