"""Plain values to debug annotations and back, without loss: how a trace carries its metadata.

Debug annotations are what Perfetto shows beside an event and lets SQL query (`debug.command[0]`),
so the metadata needs no container of its own. None is an absent entry. A text that is no Unicode
(an argument with stray bytes) becomes {"bytes": hexadecimal}, since protobuf strings are UTF-8.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar, cast

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import DebugAnnotation

Row = TypeVar("Row")


class AnnotationError(ValueError):
    """Annotations that no gilscope wrote; the message names the field."""


def annotate(value: object, name: str | None = None) -> Any:
    """Return the DebugAnnotation of a str, bool, int (64 bits), dict, list or tuple."""
    annotation = DebugAnnotation(name=name)
    if isinstance(value, bool):
        annotation.bool_value = value
    elif isinstance(value, int):
        annotation.int_value = value
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            hexadecimal = value.encode("utf-8", "surrogatepass").hex()
            annotation.dict_entries.append(annotate(hexadecimal, "bytes"))
        else:
            annotation.string_value = value
    elif isinstance(value, dict):
        annotation.dict_entries.extend(entries(value))
    elif isinstance(value, (list, tuple)):
        annotation.array_values.extend(annotate(item) for item in value)
    else:
        raise TypeError(f"no annotation for {type(value).__name__}")
    return annotation


def entries(values: dict[str, Any]) -> list[Any]:
    """Return named annotations of the values that are not None."""
    return [annotate(value, name) for name, value in values.items() if value is not None]


def from_entries(annotations: Any) -> dict[str, Any]:
    """Invert `entries`. An empty dict, list or tuple comes back as (). Raises AnnotationError."""
    values = {annotation.name: plain(annotation) for annotation in annotations}
    if len(values) != len(annotations):
        raise AnnotationError("a field twice")
    return values


def plain(annotation: Any) -> Any:
    """Invert `annotate`, but for the name. Raises AnnotationError."""
    kind = annotation.WhichOneof("value")
    if kind in ("bool_value", "int_value", "string_value"):
        return getattr(annotation, kind)
    if kind is not None:
        raise AnnotationError(f"{annotation.name}: a value of kind {kind}")
    if annotation.dict_entries:
        return from_entries(annotation.dict_entries)
    return tuple(plain(item) for item in annotation.array_values)


def build(cls: type[Row], values: object, where: str = "") -> Row:
    """Make a dataclass from what `from_entries` gave, checking the type of every field.

    A list may also be an iterator, which is read once, one entry at a time. A field that is missing
    has its default: the file was written before there was such a field. Raises AnnotationError for
    an unknown or mistyped field, or a missing one without a default.
    """
    if values == ():
        values = {}
    if not isinstance(values, dict):
        raise AnnotationError(f"{where}: not a table row")
    fields = _fields(cast(Any, cls))
    unknown = values.keys() - fields.keys()
    if unknown:
        raise AnnotationError(f"{where}{min(unknown)}: an unknown field")
    arguments = {}
    for name, (hint, plainly, optional) in fields.items():
        value = values.get(name)
        if type(value) is plainly:  # most are, in tables that are long
            arguments[name] = sys.intern(value) if isinstance(value, str) else value
        elif name in values or not optional:
            arguments[name] = _value(hint, value, where + name)
    return cls(**arguments)


@cache
def _fields(cls: type) -> dict[str, tuple[Any, type | None, bool]]:
    """Of each field of a dataclass: its hint, the type of which values need nothing done, and
    whether it has a default."""
    resolved = typing.get_type_hints(cls)
    fields = {}
    for field in dataclasses.fields(cls):
        hint = resolved[field.name]
        kinds = hint.__args__ if isinstance(hint, types.UnionType) else (hint,)
        plainly = next((kind for kind in kinds if kind in (bool, int, str)), None)
        missing = dataclasses.MISSING
        optional = field.default is not missing or field.default_factory is not missing
        fields[field.name] = hint, plainly, optional
    return fields


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):  # `X | None`, the only union in the schema
        if value is None:
            return None
        hint = next(choice for choice in hint.__args__ if choice is not types.NoneType)
    if hint is str and isinstance(value, dict) and value.keys() == {"bytes"}:
        try:
            return bytes.fromhex(value["bytes"]).decode("utf-8", "surrogatepass")
        except (TypeError, ValueError):
            raise AnnotationError(f"{where}: broken text") from None
    if hint in (bool, int, str):
        if type(value) is not hint:
            raise AnnotationError(f"{where}: not a value of type {hint.__name__}")
        return sys.intern(value) if hint is str else value  # names of files come again and again
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (tuple, Iterator)):
            raise AnnotationError(f"{where}: not a list")
        item = typing.get_args(hint)[0]
        return tuple(_value(item, one, f"{where}[{i}]") for i, one in enumerate(value))
    return build(hint, value, where + ".")
