"""The manual page, made of the same parsers that read the command line; written by setup.py."""

from __future__ import annotations

import os
import re

from gilscope import __version__
from gilscope.cli import whole

_WIDTH = "80"  # of the usage lines, whatever the terminal of the build


def page() -> str:
    """`gilscope.1`. Its date is SOURCE_DATE_EPOCH, else today.

    Needs argparse-manpage, which builds have (pyproject.toml).
    """
    from argparse_manpage.manpage import Manpage  # noqa: PLC0415 - not at run time

    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDTH
    try:
        about = {
            "project_name": "gilscope",
            "version": __version__,
            "manual_title": "gilscope",
            "description": "who holds Python's GIL, who waits for it, and because of whom",
        }
        text = str(Manpage(whole(), about, format="single-commands-section"))
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    # A line of text that begins like a request of roff's is made text.
    return re.sub(r"^'", r"\\&'", text, flags=re.MULTILINE)
