"""The one exit for text that a program or a trace brought along.

Names of threads, functions and files, arguments, metadata: who wrote them may have meant to move
the cursor, to set the terminal's title, or to make a line look like another. Such text goes through
`escaped` before it reaches a terminal, an error line, or a file of another format. JSON escapes by
itself (`json.dumps`), and a web page escapes its markup besides.
"""

from __future__ import annotations

_ELLIPSIS = "…"


def escaped(text: str, most: int | None = None) -> str:
    """`text` in one line, with everything unprintable as a Python escape (`\\x1b`, `\\n`).

    That covers control characters of both sets, marks that turn the direction of writing, lone
    surrogates and separators of lines. With `most` it is cut in its middle to so many characters.
    """
    if most is not None and len(text) > most:
        head = most // 2
        text = text[:head] + _ELLIPSIS + text[len(text) - (most - head - 1) :]
    if text.isprintable():
        return text
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return safe if most is None or len(safe) <= most else escaped(safe, most)
