"""The recorder's parts, each by itself."""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from gilscope import _native
from gilscope.errors import InstallationError, RecordingError, TraceError
from gilscope.naming import program_name
from gilscope.recorder.notes import Notes
from gilscope.recorder.preload import preload
from gilscope.recorder.record import environment
from gilscope.recorder.session import FIRST_UNIT, UNIT, Session, choose_directory

N_CLOCKS_OFFSET, CLOCKS_OFFSET, END_UNIT = 192, 256, 64
PAGES, CHUNKS = UNIT, UNIT + 128 + 4096 * 8  # queues of offers
PROCESS_PAGE, GIVEN_BACK = 0x50534731, 0x58534731


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv("GILSCOPE_DIR", str(tmp_path))
    session = Session(8 << 20)
    yield session
    session.discard()


def words(session: Session, layout: str, offset: int) -> tuple[int, ...]:
    with open(session.path, "rb") as file:
        return struct.unpack_from(layout, file.read(FIRST_UNIT * UNIT), offset)


def test_counters_alone_need_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for threads' pages; that for events is made when they are recorded."""
    monkeypatch.setenv("GILSCOPE_DIR", str(tmp_path))
    session = Session(None, reuse=True)
    try:
        session.pause()
        sizes = []
        for _ in range(2):
            for _ in range(5):
                session.tick()
            sizes.append(os.stat(session.path).st_blocks * 512)
            session.resume()
    finally:
        session.discard()
    assert sizes[0] < 8 << 20
    assert sizes[1] > 4 * sizes[0]


def test_two_clock_snapshots_come_before_anything_can_go_wrong(session: Session) -> None:
    """A reader needs two to know the clock's rate."""
    assert words(session, "<I", N_CLOCKS_OFFSET) == (1,)
    session.tick()
    assert words(session, "<I", N_CLOCKS_OFFSET) == (2,)
    first, second = words(session, "<Q24xQ", CLOCKS_OFFSET)
    assert 0 < first < second
    session.tick()
    assert words(session, "<I", N_CLOCKS_OFFSET) == (2,)
    session.stop()
    assert words(session, "<I", N_CLOCKS_OFFSET) == (3,)


def test_a_full_table_of_clocks_still_spans_the_recording(session: Session) -> None:
    (begin,) = words(session, "<Q", CLOCKS_OFFSET)
    for _ in range(200):
        session._engine.gs_rooms_clock(session._header)
    (n,) = words(session, "<I", N_CLOCKS_OFFSET)
    ticks = words(session, "<" + "Q24x" * n, CLOCKS_OFFSET)
    assert 32 <= n <= 64
    assert ticks[0] == begin
    assert list(ticks) == sorted(set(ticks))


def take(session: Session, content: bytes) -> int:
    """Take the next page that is offered, as a writer of this process does; returns its unit."""
    ready, taken = words(session, "<Q56xQ", PAGES)
    slot = PAGES + 128 + 8 * taken
    (unit,) = words(session, "<Q", slot)
    assert taken < ready
    struct.pack_into("<Q", session._map, slot, os.getpid() << 32 | unit)
    struct.pack_into("<Q", session._map, PAGES + 64, taken + 1)
    session._map[unit * UNIT : unit * UNIT + len(content)] = content
    return unit


def test_rooms_are_offered_ahead_of_writers_and_never_past_the_limit(session: Session) -> None:
    first = [words(session, "<Q", queue)[0] for queue in (PAGES, CHUNKS)]
    assert min(first) > 0
    assert words(session, "<Q", END_UNIT)[0] < session.limit_bytes // UNIT
    session.tick()
    assert [words(session, "<Q", queue)[0] for queue in (PAGES, CHUNKS)] > first
    assert words(session, "<Q", END_UNIT)[0] == session.limit_bytes // UNIT
    assert session.used_bytes < session.limit_bytes
    assert session.living_processes() == []


def test_what_a_writer_took_and_gave_back_is_free_again(session: Session) -> None:
    session.tick()
    used = session.used_bytes
    for _ in range(3):
        take(session, struct.pack("<II", GIVEN_BACK, 1) + b"x" * 100)
    for _ in range(20):
        session.tick()
    assert session.used_bytes == used
    assert words(session, "<Q", PAGES)[0] > 3


def test_why_it_stopped(session: Session) -> None:
    assert session.stopped is None
    session._engine.gs_rooms_stop(session._rooms)
    assert session.stopped == "max-size"


def test_the_directory_is_private_and_goes_away(session: Session, tmp_path: Path) -> None:
    assert stat.S_IMODE(session.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(session.path.stat().st_mode) == 0o600
    session.discard()
    assert list(tmp_path.iterdir()) == []


def test_no_place_for_rings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GILSCOPE_DIR", str(tmp_path / "missing"))
    with pytest.raises(RecordingError, match=r"missing: No such file.*GILSCOPE_DIR"):
        choose_directory()


@pytest.mark.parametrize("before", ["", "/lib/other.so", "/lib/a.so:/lib/b.so", "a.so b.so"])
def test_the_probe_comes_first_and_the_rest_stays(
    session: Session, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    monkeypatch.setenv("LD_PRELOAD", before)
    variables = environment(session)
    first, _, rest = variables["LD_PRELOAD"].partition(":")
    assert Path(first).name.endswith(".so")
    assert Path(first).exists()
    assert rest == before
    assert variables["GILSCOPE_RINGS"] == str(session.path)


@pytest.mark.parametrize(
    ("sanitizers", "rest"),
    [
        ("/usr/lib/libasan.so.8", ""),
        ("libubsan.so:/x/liblsan.so.0", "/lib/mimalloc.so"),
        ("/lib/a.so /x/libclang_rt.asan-x86_64.so", "b.so c.so"),
    ],
)
def test_sanitizers_stay_before_the_probe(sanitizers: str, rest: str) -> None:
    variables = {"LD_PRELOAD": f"{sanitizers} {rest}".strip()}
    preload(variables)
    names = [sanitizers, str(_native.probe_path()), *filter(None, [rest])]
    assert variables["LD_PRELOAD"] == ":".join(names)


def test_a_probe_that_cannot_be_named_has_a_link_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that only its user can write to, whatever else is there."""
    library = tmp_path / "with space" / "_probe.so"
    monkeypatch.setattr(_native, "probe_path", lambda: library)
    open_to_all, cache = tmp_path / "open", tmp_path / "cache"
    (open_to_all / "gilscope" / "preload").mkdir(parents=True)
    (open_to_all / "gilscope" / "preload").chmod(0o777)
    monkeypatch.setenv("HOME", str(tmp_path / "a home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(open_to_all))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(cache))
    for _ in range(2):
        variables: dict[str, str] = {}
        preload(variables)
        link = Path(variables["LD_PRELOAD"])
        assert link.is_relative_to(cache)
        assert link.readlink() == library
        assert stat.S_IMODE(link.parent.stat().st_mode) == 0o700
        link.unlink()
        link.symlink_to("elsewhere")  # by an installation that moved, say
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(InstallationError, match="XDG_CACHE_HOME"):
        preload({})


def test_a_relative_directory_is_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GILSCOPE_DIR", "here")
    assert choose_directory().parent == tmp_path / "here"


def test_damaged_pages_of_processes_are_stepped_over(session: Session) -> None:
    """The program may write anything into its rings while they are recorded."""
    take(session, struct.pack("<IIIIIII", PROCESS_PAGE, 0, 0, 0, 77, 0, 200))
    take(session, struct.pack("<IIIIIII", PROCESS_PAGE ^ 1, 0, 1 << 31, 0, 0, 0, 0))
    session.tick()
    assert [image.interpreter for image in session.images] == ["free-threaded"]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python app.py", "app"),
        ("/usr/bin/python3.11 -X dev -u folder/app.py arg.py", "app"),
        ("python -m pytest tests", "pytest"),
        ("python -m http.server 8000", "http.server"),
        ("python3.11 - app.py", "python3"),
        ("python -c pass app.py", "python"),
        ("/venv/bin/gunicorn app:app", "gunicorn"),
        ("python", "python"),
    ],
)
def test_a_trace_is_named_after_the_program(command: str, name: str) -> None:
    assert program_name(command.split()) == name


def test_notes_round_trip(tmp_path: Path) -> None:
    notes = Notes(("python", "ü"), "1.0", root_pid=3, root_end_ns=4, exit_code=137, stopped="x")
    notes.write(tmp_path)
    assert Notes.read(tmp_path) == notes
    (tmp_path / "recording.json").write_text('{"command": [], "surprise": 1}')
    with pytest.raises(TraceError):
        Notes.read(tmp_path)


NOTES = {"command": ["python"], "gilscope": "1", "root_pid": 3, "root_end_ns": 4, "exit_code": 0}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("command", "python"),
        ("command", [1]),
        ("command", None),
        ("gilscope", 1),
        ("root_pid", "3"),
        ("root_end_ns", 4.5),
        ("root_end_ns", -1),
        ("root_end_ns", 1 << 80),
        ("exit_code", [0]),
        ("exit_code", True),
        ("stopped", 1),
        ("policy", "classic"),
        ("policy", {"name": None}),
        ("policy", {"grace_ns": "5"}),
        ("policy", {"surprise": 1}),
    ],
)
def test_notes_of_wrong_types_are_refused(tmp_path: Path, field: str, value: object) -> None:
    (tmp_path / "recording.json").write_text(json.dumps(NOTES))
    assert Notes.read(tmp_path).root_end_ns == 4
    (tmp_path / "recording.json").write_text(json.dumps({**NOTES, field: value}))
    with pytest.raises(TraceError, match=f"recording.json: cannot be read .bad {field}"):
        Notes.read(tmp_path)
