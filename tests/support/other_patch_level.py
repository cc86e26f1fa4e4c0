"""The pinned source of CPython as another patch level might be: another number, moved lines.

    python -m support.other_patch_level FOLDER

writes the archive there and prints its path and SHA-256.
"""

from __future__ import annotations

import io
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from gilscope.interpreter import patches, places, source
from gilscope.interpreter.progress import Lines
from gilscope.interpreter.release import RELEASES

PINNED = RELEASES["3.13"]
FULL = "3.13.99"
_BY = 3  # lines


def patched_files() -> set[str]:
    """Paths that the series changes."""
    names = set()
    for patch in patches.series(PINNED.patches):
        names |= set(re.findall(r"^--- a/(\S+)", "".join(patch.lines), re.MULTILINE))
    return names


def moved(name: str, text: str) -> str:
    """As if lines had come before the first that a patch looks for."""
    comment = "/* another line */\n" if name.endswith((".c", ".h")) else "# another line\n"
    return comment * _BY + text


def write(
    pinned: Path,
    out: Path,
    change: Callable[[str, str], str] = moved,
    full: str = FULL,
    whole: bool = True,
) -> Path:
    """An archive in the folder `out`; `change` gives a patched file its text. One that is not whole
    has nothing but those files: enough for the patches."""
    made = out / f"Python-{full}.tgz"
    names = patched_files()
    with tarfile.open(pinned) as old, tarfile.open(made, "w:gz", compresslevel=1) as new:
        for member in old:
            name = member.name.partition("/")[2]
            if not whole and name and name not in {*names, "Include/patchlevel.h"}:
                continue
            content = old.extractfile(member) if member.isfile() else None
            member.name = f"Python-{full}/{name}".rstrip("/")
            member.pax_headers = {}  # they would have the old name of what has a long one
            if content is not None and (name in names or name == "Include/patchlevel.h"):
                text = content.read().decode()
                if name in names:
                    text = change(name, text)
                else:
                    micro = full.rpartition(".")[2]
                    text = re.sub(r'(PY_VERSION\s+)"\S+"', rf'\1"{full}"', text)
                    text = re.sub(r"(PY_MICRO_VERSION\s+)\d+", rf"\g<1>{micro}", text)
                member.size = len(text.encode())
                content = io.BytesIO(text.encode())
            new.addfile(member, content)
    return made


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    places.builds().mkdir(parents=True, exist_ok=True)
    archive = write(source.bring(PINNED, None, places.builds(), Lines()), folder)
    print(archive, source.sha256(archive))
