"""Who has his turn when at a native Condition's lock: the code of sync/core.h, in every order.

tests/c/turns.c plays a few threads and visits every state that they can reach. That its checks can
fail is shown by a core that is broken in one place each.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCENARIOS = (
    "one",
    "no-gap",
    "two",
    "two-hogs",
    "short",
    "short-and-long",
    "handler",
    "exception",
    "notified",
    "notified-handler",
    "notified-exception",
)

# What is taken out of the core, and where and how that shows.
BROKEN = {
    "nothing is kept": (
        "        lock->owner = GS_KEPT;\n",
        "        ;\n",
        ("one", "a waiter was passed over for too long"),
    ),
    "who was passed over forgets it": (
        "    if (!me)\n        return GS_NO_MEMORY;\n",
        "    lock->passed_over = 0;\n",
        ("short", "a waiter was passed over for too long"),
    ),
    "a release does not see whom it passes over": (
        "    else if (first && first->woken)\n        gs_lock_passes_over(lock);\n",
        "",
        ("one", "a waiter was passed over for too long"),
    ),
    "nor does who comes too late": (
        "        if (me->woken)\n            gs_lock_passes_over(lock);\n",
        "",
        ("no-gap", "a waiter was passed over for too long"),
    ),
    "it is kept for one that is away": (
        "    while (first && first->away)\n",
        "    while (false)\n",
        ("handler", "somebody sleeps for ever"),
    ),
    "whom it is kept for gives up": (
        "        if (gs_lock_is_for(lock, me))\n            break;\n",
        "        if (!lock->owner)\n            break;\n",
        ("short", "something is left"),
    ),
    "a newcomer takes what is kept": (
        "(gs_queue_first(&lock->queue) == me ||",
        "(true ||",
        ("two-hogs", "a waiter was passed over for too long"),
    ),
    "nobody is woken": (
        "    return gs_queue_next(&lock->queue);\n",
        "    return NULL;\n",
        ("one", "somebody sleeps for ever"),
    ),
}


def build(folder: Path, old: str = "", new: str = "") -> Path:
    """The program, with a core in which `new` stands for `old`."""
    for part in ("probe", "sync"):
        shutil.copytree(
            ROOT / "gilscope" / part, folder / part, ignore=lambda _, names: _no_header(names)
        )
    core = folder / "sync/core.h"
    text = core.read_text(encoding="utf-8")
    assert not old or text.count(old) == 1
    core.write_text(text.replace(old, new) if old else text, encoding="utf-8")
    program = folder / "turns"
    flags = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Wno-unused", "-Werror"]
    flags += ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
    flags += [f"-I{folder / 'sync'}", f"-I{folder / 'probe'}"]
    sources = [ROOT / "tests/c/turns.c", ROOT / "gilscope/sync/forks.c"]
    subprocess.run(["gcc", *flags, *sources, "-o", program], check=True)
    return program


def _no_header(names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".h")]


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("turns"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_waiter_has_its_turn(turns: Path, scenario: str) -> None:
    done = subprocess.run(
        [turns, scenario], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = re.fullmatch(r"(\d+) states, at most (\d+) sections\n", done.stdout)
    assert found is not None
    states, longest = found.groups()
    assert int(states) > 500
    assert int(longest) >= 4  # it was passed over, and not for ever
    print(f"{scenario}: {done.stdout.strip()}")


@pytest.mark.parametrize("broken", BROKEN)
def test_the_checks_can_fail(tmp_path: Path, broken: str) -> None:
    old, new, (scenario, told) = BROKEN[broken]
    program = build(tmp_path, old, new)
    done = subprocess.run(
        [program, scenario], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (1, told)
