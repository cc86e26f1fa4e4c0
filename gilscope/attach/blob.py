"""The stub (stub.c) as bytes, with what the attacher fills in for one process."""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from gilscope import _native
from gilscope.errors import Unsupported

STATE_BYTES = 16  # struct gs_stub_state
LOCKS = 4

# enum gs_stub_progress
ARMED, CALLED, DONE, LOADER_IS_BUSY, NO_LIBRARY = range(5)

_WORDS = struct.Struct("<9Q3QQ4Q5QQ")  # struct gs_stub_words


class _Blob(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_void_p),
        *((name, ctypes.c_uint64) for name in ("bytes", "unlock", "direct", "words")),
    )


class Stub(NamedTuple):
    """The code, and where in it is what."""

    code: bytes
    unlock: int
    direct: int
    words: int


@cache
def stub() -> Stub:
    """Raises Unsupported on a machine that it is not written for."""
    engine = _native.engine()
    engine.gs_stub_blob.argtypes = [ctypes.c_void_p]
    blob = _Blob()
    engine.gs_stub_blob(ctypes.byref(blob))
    if not blob.bytes:
        raise Unsupported("gilscope attaches on x86-64 alone; start the program by gilscope record")
    code = ctypes.string_at(blob.start, blob.bytes)
    return Stub(code, blob.unlock, blob.direct, blob.words)


class Request(NamedTuple):
    """What the probe is to do (struct gs_late_request)."""

    rings: str = ""
    stacks: str = ""
    policy: str = ""
    grace: str = ""


@dataclass(frozen=True)
class Filled:
    """Addresses in the process that the stub needs; fields as in struct gs_stub_words."""

    mutex: int
    locked: int
    holder: int
    state: int
    unlock: int
    trylock: int
    errno_location: int
    open: int
    symbol: int
    locks: tuple[int, ...]
    python: int

    def image(self, at: int, library: str, function: str, request: Request) -> bytes:
        """All of it as it is to stand at this address, texts last."""
        own = stub()
        texts = b""
        places = []
        for text in (library, function, "gilscope_late", *request):
            places.append(at + len(own.code) + len(texts))
            texts += text.encode("utf-8", "surrogateescape") + b"\0"
        words = _WORDS.pack(
            self.mutex,
            self.locked,
            self.holder,
            self.state,
            self.unlock,
            self.trylock,
            self.errno_location,
            self.open,
            self.symbol,
            *places[:3],
            len(self.locks),
            *self.locks,
            *(0,) * (LOCKS - len(self.locks)),
            *places[3:],
            self.python,
            0,
        )
        before, after = own.code[: own.words], own.code[own.words + len(words) :]
        return before + words + after + texts
