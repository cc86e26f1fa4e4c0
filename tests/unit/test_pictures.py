"""The pictures of the documentation are those of today's program and of the traces beside them."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from pathlib import Path

import pytest
from support.make_pictures import COLUMNS
from support.pictures import digest, lines_of, source
from support.recorded import GILSCOPE

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
TRACES = sorted(PICTURES.glob("*.pftrace.gz"))


def test_the_terminal_shows_what_the_summary_prints() -> None:
    done = subprocess.run(
        [*GILSCOPE, "summary", PICTURES / "classic.pftrace.gz"],
        env={**os.environ, "COLUMNS": str(COLUMNS), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    drawn = lines_of((PICTURES / "summary.svg").read_text(encoding="utf-8"))
    assert drawn == done.stdout.splitlines(), "make pictures"


def test_the_terminal_fetches_nothing() -> None:
    svg = (PICTURES / "summary.svg").read_text(encoding="utf-8")
    assert "url(http" not in svg
    assert "href=" not in svg


@pytest.mark.parametrize(
    ("picture", "trace"),
    [("classic", "classic"), ("io-priority", "io-priority"), ("report", "classic")],
)
def test_a_picture_was_made_of_the_trace_that_is_there(picture: str, trace: str) -> None:
    said = source((PICTURES / f"{picture}.png").read_bytes())
    assert said == digest(PICTURES / f"{trace}.pftrace.gz"), "make pictures"


def test_each_picture_is_shown_and_each_trace_has_one() -> None:
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    shown = {
        Path(name).name
        for page in pages
        for name in re.findall(r"!\[[^\]]*\]\(([^)]*pictures/[^)]+)\)", page.read_text("utf-8"))
    }
    assert shown == {path.name for path in (*PICTURES.glob("*.png"), *PICTURES.glob("*.svg"))}
    assert [path.name for path in TRACES] == ["classic.pftrace.gz", "io-priority.pftrace.gz"]


@pytest.mark.parametrize("trace", TRACES, ids=lambda path: path.name)
def test_a_trace_names_nobodys_machine(trace: Path) -> None:
    places = set(re.findall(rb"/[a-z]+/(?=[A-Za-z])", gzip.decompress(trace.read_bytes())))
    assert places <= {b"/tmp/", b"/usr/", b"/lib/", b"/bin/", b"/examples/"}
