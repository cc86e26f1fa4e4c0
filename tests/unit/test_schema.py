"""schema.py says the same as the C headers, and docs/events.md the same as both."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from gilscope.trace import schema

FIELDS = ("time_ns", "arg", "thread", "gil", "kind", "flags")

ASK_THE_COMPILER = """
#include <stddef.h>
#include <stdio.h>
#include "gilscope/trace/event.h"
int main(void) {
#define FIELD(name) printf(#name " %zu %zu\\n", offsetof(struct gs_event, name), \\
                           sizeof(((struct gs_event *)0)->name));
FIELDS
    printf("event %zu\\nno_gil %u\\nwaited %d\\ncpu %d\\n", sizeof(struct gs_event),
           (unsigned)GS_NO_GIL, GS_FLAG_WAITED, GS_FLAG_CPU);
    return 0;
}
"""


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    path = Path(__file__).parents[2] / "docs" / "generate_events.py"
    spec = importlib.util.spec_from_file_location("generate_events", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def compiled(root: Path, tmp_path: Path) -> dict[str, tuple[int, ...]]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None
    source = tmp_path / "ask.c"
    calls = "\n".join(f"    FIELD({name})" for name in FIELDS)
    source.write_text(ASK_THE_COMPILER.replace("FIELDS\n", f"{calls}\n"))
    subprocess.run([compiler, "-std=c11", "-I", root, source, "-o", tmp_path / "ask"], check=True)
    answer = subprocess.run([tmp_path / "ask"], check=True, capture_output=True, text=True)
    lines = (line.split() for line in answer.stdout.splitlines())
    return {name: tuple(map(int, numbers)) for name, *numbers in lines}


def test_event_dtype_is_the_c_struct(compiled: dict[str, tuple[int, ...]]) -> None:
    fields = schema.EVENT_DTYPE.fields
    assert fields is not None
    layout = {name: (fields[name][1], fields[name][0].itemsize) for name in fields}
    assert layout == {name: compiled[name] for name in FIELDS}
    assert (schema.EVENT_DTYPE.itemsize,) == compiled["event"]


def test_constants_are_the_headers(compiled: dict[str, tuple[int, ...]]) -> None:
    assert compiled["no_gil"] == (schema.NO_GIL,)
    assert compiled["waited"] == (schema.FLAG_WAITED,)
    assert compiled["cpu"] == (schema.FLAG_CPU,)


def test_event_kinds_are_the_table(generator: ModuleType) -> None:
    table = {row.number: row.name for row in generator.rows()}
    assert {kind.value: kind.label for kind in schema.EventKind} == table
    assert all((row.scope == "gil") == row.name.startswith("gil.") for row in generator.rows())


def test_events_document_is_up_to_date(generator: ModuleType, root: Path) -> None:
    assert (root / "docs" / "events.md").read_text() == generator.text(), "run `make docs`"
