"""What the site is told beside mkdocs.yml: links that leave docs/ lead to the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_DOCS = Path(__file__).parent
_ROOT = _DOCS.parent
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)\s#]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """MkDocs calls it for each page."""
    del files
    folder = (_DOCS / page.file.src_uri).parent

    def address(link: re.Match[str]) -> str:
        target = (folder / link[1]).resolve()
        inside = target.is_relative_to(_DOCS) and target.suffix != ".py"
        if inside or not target.exists():  # MkDocs itself warns of what is not there
            return link[0]
        name = target.relative_to(_ROOT).as_posix()
        kind = "tree" if target.is_dir() else "blob"
        return f"]({config.repo_url}/{kind}/main/{name}{link[2] or ''})"

    return _LINK.sub(address, markdown)
