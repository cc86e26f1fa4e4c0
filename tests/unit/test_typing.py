"""What a type checker makes of a user's program: all public names are typed, typos are refused.

gilscope stands in the environment that the checkers look at as pip puts it there, so that py.typed
is what counts.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import gilscope

ROOT = Path(__file__).parents[2]

RIGHT = """
from __future__ import annotations

from pathlib import Path

import gilscope
from gilscope.errors import ImpossibleStory, TraceError
from gilscope.locks import Barrier, Event


def longest_hold(path: str | Path) -> int:
    try:
        trace: gilscope.Trace = gilscope.read(path)
    except (TraceError, ImpossibleStory) as error:
        raise SystemExit(error.exit_code) from error
    for thread in trace.metadata.threads:
        name: str | None = thread.name
        print(name)
    return int((trace.holds["end"] - trace.holds["begin"]).max())


@gilscope.atomic
def move(amount: int) -> float:
    return amount / 2


def wait(condition: gilscope.Condition, ready: list[int]) -> int:
    with condition:
        arrived: bool = condition.wait(0.5)
        number = condition.wait_for(lambda: len(ready), timeout=1)
        condition.notify(1)
        condition.notify_all()
    with gilscope.atomic:
        gilscope.yield_gil()
    return number if arrived else 0


half: float = move(3)
lock: gilscope.locks.Lock = gilscope.locks.Lock()
taken: bool = lock.acquire(timeout=1)
event, barrier = Event(), Barrier(2)
event.set()
depth: int = gilscope.set_atomic(0)
version: str = gilscope.__version__
"""

# Each line has one mistake.
WRONG = """\
import gilscope
gilscope.Conditon()
gilscope.locks.Semafore()
gilscope.Condition().notifyall()
gilscope.read("a.pftrace").hold
gilscope.read()
gilscope.set_atomic("0")
gilscope.yield_gil(1)
text: str = gilscope.Condition().wait()
from gilscope import reed
from gilscope.errors import TraceEror
gilscope.read("a.pftrace").metadata.thread
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    kinds = shutil.ignore_patterns("*.c", "*.h", "*.so", "__pycache__")
    shutil.copytree(ROOT / "gilscope", site / "gilscope", ignore=kinds)
    shutil.copytree(ROOT / "viewers", site / "gilscope" / "viewers", ignore=kinds)
    # What gilscope depends on; the .pth of the editable gilscope is not followed from there.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def mypy(environment: Path, program: Path) -> dict[int, str]:
    """The first error of each line."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable",
         environment / "bin" / "python", "--config-file=", "--cache-dir", environment / "cache",
         "--no-error-summary", "--show-column-numbers", program],
        cwd=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    found = re.findall(rf"{program.name}:(\d+):\d+: error: (.*)", done.stdout)
    assert len(found) == len([line for line in done.stdout.splitlines() if ": error:" in line])
    return {int(line): text for line, text in reversed(found)}


def pyright(environment: Path, program: Path) -> dict[int, str]:
    (environment / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath",
         environment / "bin" / "python", "--project", environment, program],
        cwd=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {
        one["range"]["start"]["line"] + 1: one["message"]
        for one in found
        if one["severity"] == "error"
    }


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_right_program_is_right(checker: object, environment: Path) -> None:
    program = environment / "right.py"
    program.write_text(RIGHT)
    assert checker(environment, program) == {}  # type: ignore[operator]


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_each_mistake_is_found(checker: object, environment: Path) -> None:
    program = environment / "wrong.py"
    program.write_text(WRONG)
    found = checker(environment, program)  # type: ignore[operator]
    lines = range(2, WRONG.count("\n") + 1)
    assert [WRONG.splitlines()[line - 1] for line in lines if line not in found] == []


def test_every_public_name_is_known_to_the_checkers(environment: Path) -> None:
    program = environment / "names.py"
    program.write_text(
        "import gilscope\n"
        + "".join(f"reveal_type(gilscope.{name})\n" for name in gilscope.__all__)
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable",
         environment / "bin" / "python", "--config-file=", "--cache-dir",
         environment / "cache", program],
        cwd=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert len(told) == len(gilscope.__all__)
    assert [kind for kind in told if kind in ("Any", "builtins.object")] == []
