"""Programs whose true verdict is known: some of the corpus in tests/verdicts, on one interpreter.

All of it on all of them is `make test-verdicts`.
"""

from __future__ import annotations

import pytest
from support import interpreters
from verdicts.__main__ import run
from verdicts.corpus import PROGRAMS, RIGHT, SEALED, Program, programs

TRIES = 3  # other tests run beside it
CORPUS = programs(PROGRAMS)


@pytest.mark.alone  # on a busy machine the true finding may be that somebody had no processor
@pytest.mark.parametrize("program", [p for p in CORPUS if p.truth.get("ci")], ids=lambda p: p.name)
def test_the_first_finding_is_the_true_one(program: Program) -> None:
    why = []
    for _ in range(TRIES):
        result = run(program, interpreters.DEBIAN, load=1)
        if result.outcome == RIGHT:
            return
        why.append(f"{result.outcome}: {result.why}")
    pytest.fail("\n".join(why))


def test_each_program_of_the_corpus_tells_its_truth() -> None:
    """What is judged by a culprit's line has one."""
    corpus = [*CORPUS, *programs(SEALED)]
    assert len({program.name for program in corpus}) == len(corpus)
    for program in corpus:
        quiet = {"nothing", "unknown"} & set(program.kinds)
        assert quiet or program.truth.get("thread") or program.culprits, program.name
