"""HTML from text: the one way by which anything of a trace comes into a page.

An element's children are text, which is made printable and escaped, or HTML that this module made.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence

from gilscope.safe_text import escaped

_EMPTY = {"meta", "input", "br"}


class Html(str):
    """Markup; what is only `str` is text."""

    __slots__ = ()


def text(value: str) -> Html:
    """Text as markup."""
    return value if isinstance(value, Html) else Html(html.escape(escaped(value)))


def tag(
    name: str, /, *children: str | Iterable[str] | None, **attributes: str | int | bool | None
) -> Html:
    """An element. Attributes: `class_` is `class`, `data_sort` is `data-sort`; True has no value,
    None and False are left out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        words.append(word if value is True else f'{word}="{text(str(value))}"')
    inner = "".join(_flat(children))
    return Html(f"<{' '.join(words)}>" + ("" if name in _EMPTY else f"{inner}</{name}>"))


def _flat(children: Iterable[str | Iterable[str] | None]) -> Iterable[Html]:
    for child in children:
        if isinstance(child, str):
            yield text(child)
        elif child is not None:
            yield from _flat(child)


def code(sentence: str) -> list[Html]:
    """A sentence in which `names` and `commands` stand between backticks."""
    parts = sentence.split("`")
    return [tag("code", part) if n % 2 else text(part) for n, part in enumerate(parts)]


def table(
    caption: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: int = 1,
    id: str | None = None,
) -> Html:
    """A table that scrolls where it is too large; its first `left` columns are text, the others
    figures. The first column names its row.
    """
    head = tag(
        "tr", [tag("th", h, scope="col", class_=_side(n, left)) for n, h in enumerate(headers)]
    )
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            [tag("td", cell, class_=_side(n, left)) for n, cell in enumerate(row[1:], 1)],
        )
        for row in rows
    ]
    if not body:
        body = [tag("tr", tag("td", "none", colspan=len(headers)))]
    made = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body), id=id)
    return tag("div", made, class_="scroll", role="region", aria_label=caption, tabindex=0)


def _side(column: int, left: int) -> str | None:
    return None if column < left else "n"


def data(value: object, id: str) -> Html:
    """A value as JSON that a script of the page reads; nothing in it can end the element."""
    inner = json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
    return Html(f'<script type="application/json" id="{id}">{inner}</script>')
