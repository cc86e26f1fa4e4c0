"""Calls encode.c and decode.c by ctypes.

The two handles own C memory until `close`; arrays are passed by address and never kept.
"""

from __future__ import annotations

import ctypes
import enum
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gilscope._native import engine
from gilscope.trace.schema import Metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self


# The iid of a thread's own name (GS_NAME_OWNER of format.h), and up to format 4.
OWN_NAME, OLD_OWN_NAME = 64, 27
_OF_DETAILS = 32  # GS_ANNOTATION_OF_DETAILS: the first


class EncodeStatus(enum.IntEnum):
    """`enum gs_encode_status` of codec.h."""

    DONE = 0
    FULL = 1
    NEW_SEQUENCE = 2
    IMPOSSIBLE = 3
    NO_MEMORY = 4
    DETAIL = 5


class DecodeStatus(enum.IntEnum):
    """`enum gs_decode_status` of codec.h."""

    NEED_INPUT = 0
    FULL = 1
    RARE = 2
    CORRUPT = 3


class Detail(ctypes.Structure):
    """`struct gs_detail` of codec.h."""

    _fields_ = (
        ("start_ns", ctypes.c_int64),
        ("end_ns", ctypes.c_int64),
        ("other_ns", ctypes.c_int64),
        ("thread", ctypes.c_uint32),
        ("leaf", ctypes.c_uint32),
        ("others", ctypes.c_uint32),
        ("holder", ctypes.c_uint32),
        ("other_leaf", ctypes.c_uint32),
        ("gil", ctypes.c_uint16),
        ("of_wait", ctypes.c_uint8),
        ("yielded", ctypes.c_uint8),
        ("seen", ctypes.c_uint8),
        ("other_seen", ctypes.c_uint8),
        ("some", ctypes.c_uint16),
        ("gc", ctypes.c_uint8),
        ("other_gc", ctypes.c_uint8),
        ("pad", ctypes.c_uint16 * 1),
    )


class _DetailParts(ctypes.Structure):
    """`struct gs_detail_parts` of codec.h."""

    _fields_ = (
        ("annotations", ctypes.c_char_p),
        ("n_annotations", ctypes.c_uint64),
        ("slice", ctypes.c_char_p),
        ("n_slice", ctypes.c_uint64),
        ("interned", ctypes.c_char_p),
        ("n_interned", ctypes.c_uint64),
        ("frames", ctypes.POINTER(ctypes.c_uint32)),
        ("n_frames", ctypes.c_uint64),
        ("frames_interned", ctypes.c_char_p),
        ("n_frames_interned", ctypes.c_uint64),
    )


class DetailParts(NamedTuple):
    """What the same structure is made from."""

    annotations: bytes
    slice: bytes
    interned: bytes
    frames: list[int]
    frames_interned: bytes


class EncodeResult(ctypes.Structure):
    """`struct gs_encode_result` of codec.h."""

    _fields_ = (
        ("consumed", ctypes.c_uint64),
        ("written", ctypes.c_uint64),
        ("packets", ctypes.c_uint64),
        ("message", ctypes.c_char_p),
        ("sequence", ctypes.c_uint32),
        ("role", ctypes.c_uint32),
        ("thread", ctypes.c_uint32),
        ("gil", ctypes.c_uint32),
        ("detail", Detail),
    )


class DecodeResult(ctypes.Structure):
    """`struct gs_decode_result` of codec.h."""

    _fields_ = (
        ("consumed", ctypes.c_uint64),
        ("events", ctypes.c_uint64),
        ("packets", ctypes.c_uint64),
        ("packet_offset", ctypes.c_uint64),
        ("packet_bytes", ctypes.c_uint64),
        ("needed", ctypes.c_uint64),
        ("last_event", ctypes.c_uint64),
        ("message", ctypes.c_char_p),
    )


class Tables(ctypes.Structure):
    """`struct gs_tables` of codec.h, of a recording as far as it is known."""

    _fields_ = (
        ("n_threads", ctypes.c_uint32),
        ("thread_process", ctypes.c_void_p),
        ("n_gils", ctypes.c_uint32),
        ("gil_process", ctypes.c_void_p),
        ("n_stacks", ctypes.c_uint32),
    )

    def __init__(self, metadata: Metadata | None = None) -> None:
        self._threads = np.array([t.process for t in metadata.threads] if metadata else [], "u4")
        self._gils = np.array([g.process for g in metadata.gils] if metadata else [], "u4")
        super().__init__(
            len(self._threads),
            self._threads.ctypes.data,
            len(self._gils),
            self._gils.ctypes.data,
            len(metadata.stacks) if metadata else 0,
        )


_BUFFERS = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)


@cache
def _library() -> ctypes.CDLL:
    library = engine()
    for name, result, arguments in (
        ("gs_encoder_new", ctypes.c_void_p, (ctypes.c_int64, ctypes.c_void_p)),
        ("gs_encoder_grow", ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p)),
        ("gs_encoder_free", None, (ctypes.c_void_p,)),
        ("gs_encode", ctypes.c_int, (ctypes.c_void_p, *_BUFFERS, ctypes.c_void_p)),
        (
            "gs_encoder_detail",
            ctypes.c_uint64,
            (*(4 * (ctypes.c_void_p,)), ctypes.c_uint64, ctypes.c_void_p),
        ),
        (
            "gs_encoder_show",
            None,
            (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_int64),
        ),
        ("gs_encoder_open_thread", ctypes.c_int64, (ctypes.c_void_p,)),
        ("gs_decoder_new", ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_uint32)),
        ("gs_decoder_free", None, (ctypes.c_void_p,)),
        ("gs_decode", ctypes.c_int, (ctypes.c_void_p, *_BUFFERS, ctypes.c_void_p)),
        (
            "gs_decoder_introduce",
            ctypes.c_char_p,
            (ctypes.c_void_p, *(4 * (ctypes.c_uint32,)), ctypes.c_int64),
        ),
        ("gs_decoder_finish", ctypes.c_char_p, (ctypes.c_void_p,)),
        ("gs_format_name", ctypes.c_char_p, (ctypes.c_int, ctypes.c_uint32)),
    ):
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


class InternedTable(enum.IntEnum):
    """The tables of `gs_format_name`."""

    NAMES = 0
    CATEGORIES = 1
    ANNOTATIONS = 2
    OF_DETAILS = 3


def interned_names(table: InternedTable) -> dict[int, str]:
    """The names of one table: iid to text."""
    first = _OF_DETAILS if table is InternedTable.OF_DETAILS else 1
    names: dict[int, str] = {}
    while (text := _library().gs_format_name(int(table), len(names) + 1)) is not None:
        names[first + len(names)] = text.decode()
    return names


def _text(message: bytes | None) -> str:
    return (message or b"").decode()


class _Handle:
    """Base of the two: a pointer to C memory, freed once."""

    _free = ""

    def __init__(self, pointer: int | None) -> None:
        if not pointer:
            raise MemoryError("no memory for the trace's tables")
        self._pointer: int | None = pointer

    def close(self) -> None:
        """Free the C memory; a second call does nothing."""
        pointer, self._pointer = self._pointer, None
        if pointer:
            getattr(_library(), self._free)(pointer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Encoder(_Handle):
    """Events to hot packets. Raises MemoryError."""

    _free = "gs_encoder_free"

    def __init__(self, metadata: Metadata) -> None:
        tables = Tables(metadata)
        super().__init__(_library().gs_encoder_new(metadata.start_ns, ctypes.addressof(tables)))
        self._result = EncodeResult()

    def grow(self, metadata: Metadata) -> None:
        """Take in rows that the tables have got behind those that they had. Raises MemoryError."""
        tables = Tables(metadata)
        if _library().gs_encoder_grow(self._pointer, ctypes.addressof(tables)):
            raise MemoryError("no memory for the trace's tables")

    def encode(
        self, events: NDArray[np.void], out: NDArray[np.uint8]
    ) -> tuple[EncodeStatus, EncodeResult]:
        """Encode from the front of `events` (contiguous EVENT_DTYPE) into `out`.

        The result is valid until the next call.
        """
        status = _library().gs_encode(
            self._pointer,
            events.ctypes.data,
            len(events),
            out.ctypes.data,
            len(out),
            ctypes.addressof(self._result),
        )
        return EncodeStatus(status), self._result

    def detail(self, detail: Detail, parts: DetailParts) -> bytes:
        """The packets of a detail that `encode` asked for; those alike it then writes itself."""
        passed = _DetailParts(
            *(parts.annotations, len(parts.annotations)),
            *(parts.slice, len(parts.slice)),
            *(parts.interned, len(parts.interned)),
            *((ctypes.c_uint32 * len(parts.frames))(*parts.frames), len(parts.frames)),
            *(parts.frames_interned, len(parts.frames_interned)),
        )
        needed = ctypes.c_uint64(1 << 12)
        written = 0
        while not written:
            out = np.empty(needed.value, dtype=np.uint8)
            written = _library().gs_encoder_detail(
                self._pointer,
                ctypes.addressof(detail),
                ctypes.addressof(passed),
                out.ctypes.data,
                len(out),
                ctypes.addressof(needed),
            )
        return out[:written].tobytes()

    def show(self, sequence: int, tid: int, boottime_offset_ns: int) -> None:
        """Tell a sequence of processors the number of its thread, before its first event."""
        _library().gs_encoder_show(self._pointer, sequence, tid, boottime_offset_ns)

    def open_thread(self) -> int | None:
        """Return the id of a thread that has an open slice, None when there is none."""
        thread = _library().gs_encoder_open_thread(self._pointer)
        return None if thread < 0 else int(thread)


class Decoder(_Handle):
    """Hot packets to events; without metadata every packet is rare. Raises MemoryError."""

    _free = "gs_decoder_free"

    def __init__(self, metadata: Metadata | None = None, own_name: int = OWN_NAME) -> None:
        """`own_name`: the iid of a thread's own name in the file's format."""
        tables = Tables(metadata)
        super().__init__(_library().gs_decoder_new(ctypes.addressof(tables), own_name))
        self._result = DecodeResult()

    def decode(
        self, data: NDArray[np.uint8], events: NDArray[np.void]
    ) -> tuple[DecodeStatus, DecodeResult]:
        """Decode from the front of `data` into `events` (contiguous EVENT_DTYPE).

        The result is valid until the next call.
        """
        status = _library().gs_decode(
            self._pointer,
            data.ctypes.data,
            len(data),
            events.ctypes.data,
            len(events),
            ctypes.addressof(self._result),
        )
        return DecodeStatus(status), self._result

    def introduce(self, sequence: int, role: int, thread: int, gil: int, time_ns: int) -> str:
        """Register a packet sequence; returns what is wrong with it, or an empty text."""
        return _text(
            _library().gs_decoder_introduce(self._pointer, sequence, role, thread, gil, time_ns)
        )

    def finish(self) -> str:
        """Say what is wrong with a trace that ends here, or an empty text."""
        return _text(_library().gs_decoder_finish(self._pointer))
