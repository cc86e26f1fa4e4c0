"""What a picture in docs/pictures says of itself: the text of an SVG, the trace behind a PNG."""

from __future__ import annotations

import hashlib
import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SOURCE = b"Source\0"  # the keyword that PNG has for it


def digest(trace: Path) -> str:
    """What a picture names its trace by."""
    return f"{trace.name} sha256:{hashlib.sha256(trace.read_bytes()).hexdigest()}"


def with_source(png: bytes, trace: Path) -> bytes:
    """The picture with the name of the trace that it shows, in a text chunk behind its header."""
    assert png.startswith(_SIGNATURE)
    behind = len(_SIGNATURE) + 12 + int.from_bytes(png[8:12], "big")
    body = b"tEXt" + _SOURCE + digest(trace).encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:behind] + chunk + png[behind:]


def source(png: bytes) -> str:
    """The trace that a picture says it was made of; empty where it says nothing."""
    assert png.startswith(_SIGNATURE)
    at = len(_SIGNATURE)
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        body = png[at + 8 : at + 8 + length]
        if png[at + 4 : at + 8] == b"tEXt" and body.startswith(_SOURCE):
            return body[len(_SOURCE) :].decode()
        at += 12 + length
    return ""


def lines_of(svg: str) -> list[str]:
    """The lines of a terminal's picture, as a reader sees them."""
    rows: dict[float, str] = {}
    for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        if "clip-path" not in element.attrib:  # the window's title
            continue
        x, y, length = (float(element.attrib[name]) for name in ("x", "y", "textLength"))
        text = "".join(element.itertext()).replace("\N{NO-BREAK SPACE}", " ")
        column = round(x * len(text) / length)  # blanks without a colour are not written
        rows[y] = rows.get(y, "").ljust(column) + text
    return [rows[y].rstrip() for y in sorted(rows)]
