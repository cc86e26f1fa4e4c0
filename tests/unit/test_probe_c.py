"""The C of the probe and of the ring reader under the thread, address and undefined sanitizers."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.plus_sources import plus_sources

from gilscope.benchmarks.ablation import rules

READER_PARTS = ("order", "holes", "ring_index", "ring_stacks")
READER = tuple(f"gilscope/trace/{part}.c" for part in READER_PARTS)
PROBE_PARTS = (
    *("ring", "clock", "process", "threads", "names", "memory", "modules", "python"),
    *("frames", "stacks", "waits", "processor", "collections"),
)
PROBE = tuple(f"gilscope/probe/{part}.c" for part in PROBE_PARTS)
ROOMS_PARTS = ("rooms", "rooms_space", "rooms_old", "gone", "copy")
ROOMS = tuple(f"gilscope/recorder/{part}.c" for part in ROOMS_PARTS)
RECORDER = (*ROOMS, "gilscope/recorder/takers.c")
# The stress counts every record; how many there are of processors is the machine's doing.
PROCESSOR = "gilscope/probe/processor.c"
STRESS = ("tests/c/stress.c", *(p for p in PROBE if p != PROCESSOR), *READER, *RECORDER)
QUEUE_PARTS = ("gil_condvar", "request", "fence", "park", "slice")
QUEUE = tuple(f"gilscope/probe/{part}.c" for part in QUEUE_PARTS)
SECTION_PARTS = ("atomic", "api", "policy", "switches")
SECTIONS = tuple(f"gilscope/probe/{part}.c" for part in SECTION_PARTS)
GIL_STRESS = ("tests/c/gil_stress.c", *QUEUE, *PROBE, *SECTIONS)
CONDVAR = (
    "tests/c/condvar.c",
    *(f"gilscope/probe/{part}.c" for part in ("condvar", "park", "clock")),
)
HAND_OVER = ("tests/c/hand_over.c", *CONDVAR[1:])
SWITCHES = tuple(f"gilscope/probe/{part}.c" for part in ("policy", "switches"))
POLICY = ("tests/c/policy.c", *SWITCHES, *QUEUE, *PROBE)
RELEASES = ("tests/c/releases.c", *(f"gilscope/probe/{part}.c" for part in ("release", "memory")))
STEPS = ("tests/c/kill_steps.c", *PROBE, *READER, *ROOMS)
PLUS = tuple(p for p in plus_sources(Path(__file__).parents[2]) if p != PROCESSOR)
BUILT_IN = ("tests/c/stress.c", *PLUS, *READER, *RECORDER)
FUZZ_ORDER = ("tests/c/fuzz_order.c", *READER)
FOLLOW_PARTS = ("follow", "follow_calls", "follow_index", "follow_resume")
FUZZ_FOLLOW = ("tests/c/fuzz_follow.c", *(f"gilscope/trace/{part}.c" for part in FOLLOW_PARTS))
ROUNDS = 1_000
MODES = ["threads", "starved", "shortened", "resized", "limit"]
MODES += ["forks", "killed", "reused", "churned"]

WITH_SWITCHES = "-DGILSCOPE_TEST_RULES"  # a macro, where sanitizers are named

Build = Callable[[tuple[str, ...], str], Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compiles a program of tests/c with sanitizers, once."""
    root = Path(__file__).parents[2]
    folder = tmp_path_factory.mktemp("c")
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None

    def build(sources: tuple[str, ...], sanitizers: str) -> Path:
        program = folder / f"{Path(sources[0]).stem}-{len(sources)}-{sanitizers}"
        if not program.exists():
            flags = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
            if sanitizers == WITH_SWITCHES:
                flags += [WITH_SWITCHES]
            elif sanitizers:
                flags += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
            if sources == BUILT_IN:
                flags += ["-DBUILT_IN"]
            files = [root / source for source in sources]
            subprocess.run([compiler, *flags, *files, "-o", program, "-ldl"], check=True)
        return program

    return build


def run(*command: str | Path) -> str:
    """What it printed; it must end well and say nothing on stderr."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("sanitizers", ["thread", "address,undefined"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("feed", [STRESS, BUILT_IN], ids=["interposed", "built-in"])
def test_written_is_read_plus_lost(
    build: Build, tmp_path: Path, sanitizers: str, mode: str, feed: tuple[str, ...]
) -> None:
    program = build(feed, sanitizers)
    for seed in (1, 2):
        print(run(program, tmp_path / "rings", mode, str(seed)), end="")


@pytest.mark.parametrize("mode", [("forks", "200"), ("reused", "1500")], ids=lambda mode: mode[0])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("fuzz", [FUZZ_ORDER, FUZZ_FOLLOW], ids=["offline", "live"])
def test_damaged_rings_end_in_an_error_or_in_events(
    build: Build, tmp_path: Path, seed: int, mode: tuple[str, str], fuzz: tuple[str, ...]
) -> None:
    rings = tmp_path / "rings"
    run(build(STRESS, ""), rings, mode[0], str(seed), mode[1])
    told = run(build(fuzz, "address,undefined"), rings, str(ROUNDS), str(seed))
    print(told, end="")
    rounds, good, refused = list(map(int, re.findall(r"\d+", told)))[:3]
    assert rounds == ROUNDS
    assert good > ROUNDS // 10
    # The live reader meets less: what is broken before it is looked at may be written over.
    assert refused > ROUNDS // (10 if fuzz is FUZZ_ORDER else 25)


@pytest.mark.parametrize("sanitizers", ["thread", "address,undefined"])
@pytest.mark.parametrize("backend", ["pthread", "emulated", "futex"])
@pytest.mark.parametrize("mode", ["mixed", "starve", "hurry", "calm", "sections", "close"])
def test_one_holder_no_lost_wakeup_nobody_starves(
    build: Build, mode: str, backend: str, sanitizers: str
) -> None:
    program = build(GIL_STRESS, sanitizers)
    for seed in (1, 2):  # without and with spinning
        print(run(program, mode, backend, str(seed)), end="")


@pytest.mark.parametrize("rule", sorted(rules()))
def test_without_a_rule_nobody_waits_for_ever(build: Build, rule: str) -> None:
    program = build(GIL_STRESS, WITH_SWITCHES)
    for mode in ("mixed", "sections"):
        print(run("env", f"GILSCOPE_WITHOUT={rule}", program, mode, "futex", "1", "100"), end="")


def test_rules_are_left_out_by_name(build: Build) -> None:
    for names, said in {
        "": "understood",
        ",".join(rules()): "understood",
        "debt,luck": "GILSCOPE_WITHOUT has names of rules.h, with commas between",
    }.items():
        program = build(POLICY, WITH_SWITCHES)
        assert run("env", f"GILSCOPE_WITHOUT={names}", program).splitlines()[1] == said
    # What programs get does not know them.
    assert run("env", "GILSCOPE_WITHOUT=luck", build(POLICY, "")).splitlines()[1] == "understood"


@pytest.mark.parametrize("sanitizers", ["thread", "address,undefined"])
@pytest.mark.parametrize("backend", ["pthread", "emulated", "futex"])
@pytest.mark.parametrize("mode", ["mixed", "races", "cancel"])
def test_no_signal_of_a_condition_variable_is_lost_or_stolen(
    build: Build, mode: str, backend: str, sanitizers: str
) -> None:
    """Nor where a wait's time is up just then, or its thread is interrupted or cancelled."""
    told = run(build(CONDVAR, sanitizers), mode, backend, "1")
    print(told, end="")
    signals, got, timed_out, _, _, cancelled = map(int, re.findall(r"\d+", told))
    assert signals == got
    assert min(got, timed_out) > 100
    assert (cancelled > 10) == (mode == "cancel")


def test_a_hand_over_takes_the_fewest_instructions_by_a_futex(build: Build) -> None:
    """Counted in user space by callgrind; the kernel's part is the same sleep and wakeup."""
    program = build(HAND_OVER, "")
    taken = {}
    for backend in ("pthread", "emulated", "futex"):
        counts = []
        for times in (1_000, 3_000):
            command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
            done = subprocess.run(
                [*command, program, backend, str(times)],
                capture_output=True, text=True, timeout=300, check=True,
            )  # fmt: skip
            (counted,) = re.findall(r"Collected : (\d+)", done.stderr)
            counts.append(int(counted))
        taken[backend] = (counts[1] - counts[0]) / 4_000  # two hand-overs each time
    print(f"instructions a hand-over: {taken}")
    assert taken["futex"] < taken["emulated"] < taken["pthread"]


def test_a_kill_at_every_instruction_leaves_all_events_up_to_it(
    build: Build, tmp_path: Path
) -> None:
    """Of the birth of a process and of a thread, of refills, of a fork's child, of a recorder that
    takes rooms back; and a recorder gets all rooms of a process that died there.
    """
    told = run(build(STEPS, ""), tmp_path / "rings")
    print(told, end="")
    states = {name: int(n) for name, n in re.findall(r"(\w+): \d+ steps, (\d+) states", told)}
    assert states.keys() == {"first", "forked", "recorder"}
    assert min(states["first"], states["forked"]) > 2 * 1020  # each event is two stores
    assert states["recorder"] > 500


@pytest.mark.parametrize("sanitizers", ["", "thread", "address,undefined"])
@pytest.mark.parametrize("compiled", ["called", "copied"])
def test_who_lets_go_by_itself_is_learned_from_the_stack(
    build: Build, compiled: str, sanitizers: str
) -> None:
    lines = run(build(RELEASES, sanitizers), compiled).splitlines()
    told = {name: int(forced) for name, forced in (line.split() for line in lines)}
    # Undecided is forced: where there are copies, only what was learned is not.
    undecided = 20 if compiled == "copied" else 0
    assert told == {
        "nothing-learned": 0,
        "reads-before-the-loop-was-seen": undecided,
        "loop": 20,
        "saves": 0,
        "waits": 0,
        "ends": 0,
        "reads": 0,
        "never-without": undecided,
        "came-too-late": undecided,
        "loop-again": 20,
        "waits-again": 0,
    }


NO_GRACE = ("abc", "-5", " 5", "7x", "1000001", "9" * 30)


@pytest.mark.parametrize(
    ("chosen", "made", "wrong"),
    [
        (("", "", ""), "classic 5000 pthread", None),
        (("io-priority", "20", "emulated"), "io-priority 20000 emulated", None),
        (("io-priority", "0", ""), "io-priority 0 futex", None),
        (("fast", "20", ""), "classic 20000 pthread", "policy"),
        (("io-priority", "", "x"), "io-priority 5000 futex", "condvar"),
        *((("io-priority", grace, ""), "io-priority 5000 futex", "grace_us") for grace in NO_GRACE),
    ],
)
def test_switches_that_are_not_understood_are_defaults(
    build: Build, chosen: tuple[str, str, str], made: str, wrong: str | None
) -> None:
    names = ("POLICY", "GRACE_US", "CONDVAR")
    words = [f"GILSCOPE_{name}={value}" for name, value in zip(names, chosen, strict=True)]
    values, complaint = run("env", *words, build(POLICY, "address,undefined")).splitlines()
    assert values == made
    assert complaint.startswith(f"gilscope.{wrong} (or " if wrong else "understood")
