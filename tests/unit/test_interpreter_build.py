"""Building: what is built again and what is not, what a failure leaves, two builds at once.

The source is a small one that takes CPython's place; tests/integration builds the real one.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.fake_cpython import MAKEFILE, PATCH, PYTHON, VERSION, FakeCPython

from gilscope.cli import main
from gilscope.errors import BuildError
from gilscope.interpreter import build as building
from gilscope.interpreter import check
from gilscope.interpreter.places import Place, installed
from gilscope.interpreter.progress import Lines
from gilscope.interpreter.release import RELEASES, VARIANTS, Variant

TESTS = Path(__file__).parents[1]

# A compiler's output, and what the user is told of it.
FAILURES = {
    "fatal error: openssl/ssl.h: No such file or directory": "the header openssl/ssl.h is missing",
    "/usr/bin/ld: cannot find -lffi: No such file": "the library libffi is missing",
    "/bin/sh: 1: pkg-config: not found": "the tool pkg-config is missing",
    "write error: No space left on device": "the disk is full",
    "gcc: fatal error: Killed signal terminated program cc1": "the compiler ran out of memory",
    "core.c:1:1: error: expected ';'": "core.c:1:1: error: expected ';'",
}


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "PKG_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake(tmp_path: Path) -> FakeCPython:
    return FakeCPython(tmp_path / "fake")


def build(fake: FakeCPython, variant: str = "") -> Place:
    return building.build(fake.release(), VARIANTS[variant], fake.archive, Lines())


def compiled(place: Place) -> list[str]:
    """What was compiled since the last look."""
    record = place.work / "build" / "compiled"
    names = sorted(record.read_text().split()) if record.exists() else []
    record.unlink(missing_ok=True)
    return names


def steps(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.removeprefix("gilscope: ") for line in capsys.readouterr().err.splitlines()]


def failure(fake: FakeCPython) -> str:
    """The line that a build ends with; nothing is installed, nor left beside it."""
    with pytest.raises(BuildError) as error:
        build(fake)
    folder = Place.of(fake.release(), VARIANTS[""]).prefix.parent
    assert list(installed()) == []
    assert not folder.is_dir() or [p for p in folder.iterdir() if not p.name.endswith(".new")] == []
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_build_and_the_next(fake: FakeCPython, capsys: pytest.CaptureFixture[str]) -> None:
    place = build(fake)
    assert check.look(place.python) == check.Seen(VERSION, [], None, {"locks": True})
    said = steps(capsys)
    assert said[:2] == ["unpack and patch", "configure"]
    assert said[2].startswith("without readline: no library for it (on Debian: apt-get install")
    assert said[3:] == ["compile", "install", "check"]
    assert compiled(place) == ["core", "probe"]
    assert [prefix for prefix, _ in installed()] == [place.prefix]
    assert build(fake) == place
    assert steps(capsys) == []


def test_only_what_changed_is_built_again(
    fake: FakeCPython, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled(build(fake))
    steps(capsys)
    fake.write_series(probe=PATCH)
    place = build(fake)
    assert compiled(place) == ["probe"]
    assert "configure" not in steps(capsys)
    assert check.look(place.python).built_in == 7
    (fake.probe / "emit.h").write_text("emit better")
    assert compiled(build(fake)) == ["probe"]
    fake.write_series()
    place = build(fake)
    assert compiled(place) == ["probe"]
    assert check.look(place.python).built_in is None
    fake.write_series(
        probe=PATCH,
        flags="--- a/Makefile.pre.in\n+++ b/Makefile.pre.in\n"
        "@@ -2 +2 @@\n-all: core.o probe.o\n+all: probe.o core.o\n",
    )
    place = build(fake)
    assert "configure" in steps(capsys)
    assert compiled(place) == ["core", "probe"]


def test_other_switches_are_another_build(
    fake: FakeCPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(build(fake))
    monkeypatch.setenv("CFLAGS", "-O1")
    assert compiled(build(fake)) == ["core", "probe"]
    assert "CFLAGS=-O1" in Place.of(fake.release(), VARIANTS[""]).log.read_text()


def test_variants_stand_side_by_side(fake: FakeCPython) -> None:
    fake.write_series(probe=PATCH)
    patched, stock = build(fake), build(fake, "stock")
    assert check.look(patched.python).built_in == 7
    assert check.look(stock.python).built_in is None
    assert [prefix.name for prefix, _ in installed()] == ["3.13", "3.13-stock"]
    (fake.probe / "emit.h").write_text("emit better")
    compiled(stock)
    assert compiled(build(fake, "stock")) == []  # the probe does not concern it


def test_macros_of_a_variant(fake: FakeCPython) -> None:
    fake.write_series(probe=PATCH)
    for macros in ("-DA=1", "-DA=2"):
        variant = Variant("x", "", macros=macros)
        place = building.build(fake.release(), variant, fake.archive, Lines())
        assert compiled(place) == ["core", "probe"]
        assert f"cc -c probe.c {macros} " in place.log.read_text()


@pytest.mark.parametrize("said", FAILURES)
def test_a_failed_step_says_what_is_missing(tmp_path: Path, said: str) -> None:
    recipe = f'\t@echo "{said}"; echo "make: *** Error 1"; exit 1\n'
    fails = MAKEFILE.replace("core.o: $(srcdir)/core.c\n", f"core.o:\n{recipe}", 1)
    line = failure(FakeCPython(tmp_path / "fake", {"Makefile.pre.in": fails}))
    assert line.startswith(f"make failed: {FAILURES[said]}")
    log = Place.of(RELEASES["3.13"], VARIANTS[""]).log
    assert line.endswith(f"; see {log}")
    assert said in log.read_text()


def test_a_needed_library_is_missed_before_anything_is_compiled(tmp_path: Path) -> None:
    fake = FakeCPython(tmp_path / "fake")
    configure = (fake.tree / "configure").read_text()
    missing = "MODULE__SSL_STATE=missing\nMODULE__CTYPES_STATE=missing"
    fake = FakeCPython(
        tmp_path / "other", {"configure": configure.replace("MODULE_ZLIB_STATE=yes", missing)}
    )
    assert "ssl, ctypes are missing; on Debian: apt-get install libssl-dev libffi-dev" in failure(
        fake
    )


def test_what_was_built_is_run_before_it_is_installed(tmp_path: Path) -> None:
    for number, (text, why) in enumerate(
        (
            (PYTHON.replace(VERSION, "3.12.0"), "says that it is Python 3.12.0"),
            (PYTHON.replace("[]", '["ssl (no)"]'), r"lacks ssl \(no\)"),
            ("#!/bin/sh\necho broken >&2; exit 3\n", "ends with 3: broken"),
        )
    ):
        line = failure(FakeCPython(tmp_path / f"fake{number}", {"python.sh": text}))
        assert why.replace("\\", "") in line


def test_patches_without_a_probe_are_a_failure(fake: FakeCPython) -> None:
    fake.write_series(other=PATCH.replace("+7", "+null\n+").replace("@@ -1 +1 @@", "@@ -1 +1,2 @@"))
    assert "no probe inside" in failure(fake)


def test_a_failure_leaves_what_was_installed(fake: FakeCPython) -> None:
    place = build(fake)
    fake.write_series(bad=PATCH.replace("-null", "-nothing"))
    with pytest.raises(BuildError, match="the patch bad does not apply"):
        build(fake)
    assert check.look(place.python).version == VERSION


@pytest.mark.parametrize("tool", ["cc", "make", "ar"])
def test_a_missing_tool(
    fake: FakeCPython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in {"cc", "make", "ar"} - {tool}:
        (tools / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tools))
    assert failure(fake).startswith(f"there is no {'C compiler' if tool == 'cc' else tool}; on")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv("CC", "nocc -m64")
    assert failure(fake) == "there is no C compiler 'nocc -m64', which CC names"


def test_a_path_with_a_space(
    fake: FakeCPython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "my data"))
    assert "has a space in it" in failure(fake)


def gilscope(
    fake: FakeCPython, *arguments: str, within: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """`gilscope ARGUMENT…` in a process of its own, for the fake release."""
    command = [*within, sys.executable, "-m", "support.fake_cpython", str(fake.folder), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=TESTS, stdout=pipe, stderr=pipe, text=True)


def build_within(fake: FakeCPython, *within: str) -> str:
    """The last line on standard error of a build that fails in a mount or with less rights."""
    process = gilscope(fake, "interpreter", "build", "--source", str(fake.archive), within=within)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, ""), err
    assert "Traceback" not in err
    return err.splitlines()[-1]


def small_disk(folder: Path, kib: int) -> list[str]:
    rights = () if os.geteuid() == 0 else ("--map-root-user",)
    folder.mkdir()
    setup = f"mount -t tmpfs -o size={kib}k none {folder}"
    return ["unshare", *rights, "--mount", "sh", "-c", f'{setup} && exec "$@"', "sh"]


@pytest.mark.parametrize("when", ["unpack", "compile"])
def test_a_full_disk(tmp_path: Path, when: str) -> None:
    big = "x" * (600 << 10)
    fills = MAKEFILE.replace("cp $(srcdir)/core.c core.o", "head -c 2M /dev/zero >core.o || exit")
    fake = FakeCPython(
        tmp_path / "fake", {"big.c": big} if when == "unpack" else {"Makefile.pre.in": fills}
    )
    line = build_within(fake, *small_disk(tmp_path / "cache", 400))
    assert "disk is full" in line or "No space left on device" in line
    assert list(installed()) == []


def test_a_disk_without_room_is_told_before_the_work(tmp_path: Path, fake: FakeCPython) -> None:
    release = fake.release(build_bytes=1 << 60)
    with pytest.raises(BuildError, match=r"the disk of .* is too full: a build needs .* MiB there"):
        building.build(release, VARIANTS[""], fake.archive, Lines())
    assert not (tmp_path / "cache" / "gilscope" / "interpreters" / "3.13" / "source").exists()


@pytest.mark.parametrize(("folder", "variable"), [("data", "DATA"), ("cache", "CACHE")])
def test_a_place_that_cannot_be_written(
    fake: FakeCPython, tmp_path: Path, folder: str, variable: str
) -> None:
    (tmp_path / folder).mkdir(mode=0o555)
    # Root may write everywhere, but for this right.
    without = ("setpriv", "--bounding-set", "-dac_override") if os.geteuid() == 0 else ()
    line = build_within(fake, *without)
    assert f"cannot be written to (Permission denied); XDG_{variable}_HOME names another" in line


WAITS = """core.o: $(srcdir)/core.c
\t@echo begun >> begun; if test -e {gate}; then cat {gate}; fi
"""


def slow(tmp_path: Path) -> tuple[FakeCPython, Path]:
    """Its compilation stops at a gate, a FIFO, until somebody opens it for writing."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    text = MAKEFILE.replace("core.o: $(srcdir)/core.c\n", WAITS.format(gate=gate), 1)
    return FakeCPython(tmp_path / "fake", {"Makefile.pre.in": text}), gate


def test_ctrl_c_and_on_from_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fake, gate = slow(tmp_path)
    process = gilscope(fake, "interpreter", "build", "--source", str(fake.archive))
    with gate.open("w"):  # make stands at the gate now
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "gilscope: stopped; the same command goes on from here"
    assert list(installed()) == []
    gate.unlink()
    place = Place.of(fake.release(), VARIANTS[""])
    process = gilscope(fake, "interpreter", "build")  # its source is here already
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"{place.python}\n"), err
    assert "unpack" not in err
    assert "configure" not in err


def test_a_bar_on_a_terminal(fake: FakeCPython) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "support.fake_cpython", str(fake.folder), "interpreter"]
    with subprocess.Popen(
        [*command, "build", "--source", str(fake.archive)],
        cwd=TESTS,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = bytearray()
        try:
            while block := os.read(ours, 4096):
                shown += block
        except OSError:  # EIO: nobody holds the terminal's other side any more
            os.close(ours)
    assert process.returncode == 0
    assert "gilscope:" not in shown.decode()
    for step in ("unpack and patch", "configure", "compile", "install", "check"):
        assert f"✓ {step}" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


def test_two_builds_at_once(tmp_path: Path) -> None:
    fake, gate = slow(tmp_path)
    command = ("interpreter", "build", "--source", str(fake.archive))
    first = gilscope(fake, *command)
    with gate.open("w"):
        second = gilscope(fake, *command)
        assert second.stderr is not None
        assert second.stderr.readline() == (
            "gilscope: another build of 3.13 runs; waiting for its end\n"
        )
    outs = [process.communicate(timeout=60) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outs
    assert outs[0][0] == outs[1][0]
    assert outs[1][1] == ""  # there was nothing left to do for it
    place = Place.of(fake.release(), VARIANTS[""])
    assert (place.work / "build" / "begun").read_text() == "begun\n"


def test_a_killed_build_keeps_others_out_while_its_tools_run(tmp_path: Path) -> None:
    fake, gate = slow(tmp_path)
    command = ("interpreter", "build", "--source", str(fake.archive))
    first = gilscope(fake, *command)
    with gate.open("w"):
        first.kill()
        first.communicate(timeout=60)
        second = gilscope(fake, *command)
        assert second.stderr is not None
        assert "waiting" in second.stderr.readline()
        gate.unlink()
    second.communicate(timeout=60)
    assert second.returncode == 0


def test_list_path_and_remove(
    fake: FakeCPython, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RELEASES, "3.13", fake.release())
    assert main(["interpreter", "path"]) == 1
    assert steps(capsys) == ["it is not here; build it: gilscope interpreter build 3.13"]
    assert main(["interpreter", "list"]) == 0
    assert capsys.readouterr().out == ""
    fake.write_series(probe=PATCH)
    place, stock = build(fake), build(fake, "stock")
    capsys.readouterr()
    assert main(["interpreter", "path", "3.13"]) == 0
    assert capsys.readouterr().out == f"{place.python}\n"
    assert main(["interpreter", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"3.13         {VERSION}, built in: locks  {place.python}",
        f"3.13-stock   {VERSION}, no probe inside  {stock.python}",
    ]
    stock.python.write_text("#!/bin/sh\necho no library >&2; exit 127\n")
    assert main(["interpreter", "list"]) == 0
    assert "3.13-stock   broken: " in capsys.readouterr().out
    assert main(["interpreter", "remove"]) == 0
    assert [prefix.name for prefix, _ in installed()] == ["3.13-stock"]
    assert not place.work.exists()
    assert main(["interpreter", "remove"]) == 1
    shutil.rmtree(stock.lock.parent)  # the cache
    stock.python.unlink()
    capsys.readouterr()
    assert main(["interpreter", "list"]) == 0
    assert capsys.readouterr().out.startswith(
        f"3.13-stock   broken: {stock.python} does not run: No such file or directory  "
    )
    assert main(["interpreter", "remove", "--variant", "stock"]) == 0
    assert list(installed()) == []


def test_mistakes_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["interpreter", "build", "3.9"]) == 2
    assert main(["interpreter", "path", "--variant", "none"]) == 2
    assert steps(capsys) == [
        "no Python Plus 3.9; there is 3.13",
        "no variant 'none'; there is stock, debug, off, gil, rules",
    ]
