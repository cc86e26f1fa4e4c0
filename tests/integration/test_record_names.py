"""Threads carry the names that Python gave them, on every version."""

from __future__ import annotations

from pathlib import Path

from support.recorded import record

PROGRAM = """
import concurrent.futures, os, threading

class Odd(threading.Thread):
    starting = False
    def __getattribute__(self, name):
        # From 3.14 on the new thread reads it as well, to name itself for the kernel.
        if name == "_name" and Odd.starting and threading.get_ident() == starter:
            raise RuntimeError("the probe ran the program's own code")
        return super().__getattribute__(name)

starter = threading.get_ident()
ran = []
def work():
    ran.append(threading.current_thread().name)

names = ["plain", "two words", "Füße 日本", "x" * 300, "lone \\udc80 surrogate"]
threads = [threading.Thread(target=work, name=name) for name in names]
for thread in threads:
    thread.start()
    thread.join()
odd = Odd(target=lambda: ran.append("odd"), name="odd one")
Odd.starting = True
odd.start()
Odd.starting = False
odd.join()
together = threading.Barrier(4)
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda _: together.wait(), range(4)))
assert len(ran) == len(names) + 1, ran
"""


def test_names(interpreter: Path, tmp_path: Path) -> None:
    (tmp_path / "names.py").write_text(PROGRAM, encoding="utf-8")
    done = record(tmp_path, interpreter, "names.py", variables={"PYTHONUTF8": "1"})
    assert done.code == 0, done.err
    names = [thread.name for thread in done.metadata.threads]
    for name in ("MainThread", "plain", "two words", "Füße 日本", "x" * 199, "odd one"):
        assert names.count(name) == 1, (name, names)
    assert {f"ThreadPoolExecutor-0_{i}" for i in range(4)} <= set(names)
    assert len(names) == 11
    assert [thread.is_main for thread in done.metadata.threads] == [True] + [False] * 10
