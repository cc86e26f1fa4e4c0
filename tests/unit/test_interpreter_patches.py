"""A series of patches applies exactly, or the tree stays as it was."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gilscope.errors import BuildError
from gilscope.interpreter import patches
from gilscope.interpreter.patches import Patch

OLD = "one\ntwo\nthree\nfour\nfive\n"


def patch(body: str, path: str = "file.c", name: str = "0001.patch") -> Patch:
    text = f"Why it is so.\n--- a/{path}\n+++ b/{path}\n{body}"
    return Patch(name, text.splitlines(keepends=True))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "file.c").write_text(OLD)
    return tmp_path


def test_a_change(tree: Path) -> None:
    patches.apply([patch("@@ -2,2 +2,3 @@\n two\n-three\n+3\n+3.5\n")], tree)
    assert (tree / "file.c").read_text() == "one\ntwo\n3\n3.5\nfour\nfive\n"


def test_patches_build_on_each_other(tree: Path) -> None:
    first = patch("@@ -1,1 +1,2 @@\n+zero\n one\n@@ -5 +6 @@\n-five\n+FIVE\n")
    second = patch("@@ -1,2 +1,2 @@\n zero\n-one\n+ONE\n", name="0002.patch")
    patches.apply([first, second], tree)
    assert (tree / "file.c").read_text() == "zero\nONE\ntwo\nthree\nfour\nFIVE\n"


def test_a_hunk_may_stand_elsewhere_at_one_place_only(tree: Path) -> None:
    elsewhere = patch("@@ -1,2 +1,2 @@\n four\n-five\n+FIVE\n")
    patches.apply([elsewhere], tree)
    assert (tree / "file.c").read_text().endswith("four\nFIVE\n")
    (tree / "file.c").write_text("a\nsame\nb\nsame\nc\n")
    with pytest.raises(BuildError, match=r"its hunk for line 3 fits 2 places of file\.c"):
        patches.apply([patch("@@ -3 +3 @@\n-same\n+other\n")], tree)


def test_files_are_made_and_deleted(tree: Path) -> None:
    made = (
        "--- /dev/null\n+++ b/new/file.h\n@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n"
    )
    gone = "--- a/file.c\n+++ /dev/null\n@@ -1,5 +0,0 @@\n-one\n-two\n-three\n-four\n-five\n"
    patches.apply([Patch("p", (made + gone).splitlines(keepends=True))], tree)
    assert (tree / "new" / "file.h").read_text() == "a\nb"
    assert not (tree / "file.c").exists()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("@@ -2 +2 @@\n-zwei\n+2\n", "finds its lines nowhere in file.c"),
        ("@@ -2,0 +3 @@\n+new\n", "has no line of context"),
        ("@@ -2,3 +2,3 @@\n two\n-three\n", "ends early"),
        ("@@ two @@\n", "a hunk begins with"),
        ("", "it changes nothing"),
        ("rename from file.c\n@@ -2 +2 @@\n-two\n+2\n", "no change of text"),
    ],
)
def test_what_does_not_fit(tree: Path, body: str, why: str) -> None:
    good = patch("@@ -1 +1 @@\n-one\n+1\n")
    with pytest.raises(BuildError, match=why) as error:
        patches.apply([good, patch(body, name="0002.patch")], tree)
    assert "the patch 0002.patch does not apply" in str(error.value)
    assert "\n" not in str(error.value)
    assert (tree / "file.c").read_text() == OLD


@pytest.mark.parametrize("path", ["../out.c", "/etc/out.c", "missing.c", "x/../../out.c"])
def test_no_file_of_the_tree(tree: Path, path: str) -> None:
    with pytest.raises(BuildError, match="does not apply"):
        patches.apply([patch("@@ -1 +1 @@\n-one\n+1\n", path)], tree)


def test_a_new_file_must_not_be_there(tree: Path) -> None:
    text = "--- /dev/null\n+++ b/file.c\n@@ -0,0 +1 @@\n+a\n"
    with pytest.raises(BuildError, match="exists already"):
        patches.apply([Patch("p", text.splitlines(keepends=True))], tree)


def test_a_missing_patch_is_named(tmp_path: Path) -> None:
    (tmp_path / "series").write_text("# comment\n\n0001-gone.patch\n")
    with pytest.raises(BuildError, match=r"a patch is missing: .*0001-gone\.patch"):
        patches.series(tmp_path)


LINES = st.lists(st.sampled_from(["a", "b\f", "c\r", "", "ä\x85"]), min_size=1, max_size=12).map(
    lambda lines: "".join(f"{line}\n" for line in lines)
)


@settings(deadline=None, max_examples=50)
@given(LINES, LINES, st.sampled_from([1, 3]), st.booleans())
def test_what_diff_writes_is_applied(
    tmp_path_factory: pytest.TempPathFactory, old: str, new: str, context: int, ends: bool
) -> None:
    """The oracle: `diff` made it, so the new file must come out."""
    folder = tmp_path_factory.mktemp("diff")
    for side, text in (("a", old), ("b", new.removesuffix("\n") if ends else new)):
        (folder / side).mkdir()
        (folder / side / "file").write_bytes(text.encode())
    made = subprocess.run(
        ["diff", f"-U{context}", "a/file", "b/file"], cwd=folder, capture_output=True, check=False
    )
    if made.returncode == 1:
        (folder / "p").write_bytes(made.stdout)
        (folder / "series").write_text("p\n")
        shutil.copytree(folder / "a", folder / "tree")
        patches.apply(patches.series(folder), folder / "tree")
        assert (folder / "tree" / "file").read_bytes() == (folder / "b" / "file").read_bytes()
    shutil.rmtree(folder)
