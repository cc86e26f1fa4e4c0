"""The documentation: it builds without a warning, and every link leads somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"]
PAGES += [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/results/*.md")]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)")


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for name, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{name}#{anchor}")
    assert broken == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", made],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return made


def test_the_site_has_every_page(site: Path) -> None:
    for page in [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/results/*.md")]:
        name = page.relative_to(ROOT / "docs").with_suffix("")
        folder = name.parent if name.name in ("index", "README") else name
        assert (site / folder / "index.html").is_file(), page
    assert not list(site.rglob("*.py"))


def test_the_site_asks_no_other_server(site: Path) -> None:
    for page in site.rglob("*.html"):
        asked = re.findall(
            r'<(?:script|link|img)[^>]*(?:src|href)="?(https?://[^" >]+)', page.read_text()
        )
        others = [address for address in asked if not address.startswith("https://gilscope.")]
        assert others == [], page


def test_python_is_told_from_its_docstrings(site: Path) -> None:
    page = re.sub(r"<[^>]+>", "", (site / "api" / "index.html").read_text(encoding="utf-8"))
    for words in (
        "Read a .pftrace or .pftrace.gz that gilscope wrote",
        "A recording as arrays of intervals",
        "Give the GIL to a waiter now",
        "A trace cannot be read.",
        "BoundedSemaphore",
    ):
        assert words in page, words


def test_the_overview_is_that_of_the_pages(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(ROOT / "docs" / "results", folder)
    subprocess.run([sys.executable, ROOT / "docs" / "generate_results.py", folder], check=True)
    for name in ("README.md", "overview.svg"):
        assert (folder / name).read_bytes() == (ROOT / "docs" / "results" / name).read_bytes()
