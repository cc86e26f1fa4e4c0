"""Celery's worker with a pool of threads."""

from __future__ import annotations

import signal
import subprocess

from software.harness import PROGRAMS, Finished, Software, check_stamps, look_at

TASKS = 100


def work(software: Software, recorded: bool) -> tuple[Finished, list[str]]:
    folder = software.folder / ("recorded" if recorded else "plain")
    folder.mkdir()
    env = {"CELERY_FOLDER": str(folder), "PYTHONPATH": str(PROGRAMS)}
    command = [
        *(software.python, "-m", "celery", "-A", "celery_tasks", "worker", "--pool", "threads"),
        *("--concurrency", "4", "--loglevel", "info", "--without-mingle", "--without-gossip"),
    ]
    with software.started(command, recorded, env) as worker:
        worker.says("ready.")
        client = subprocess.run(
            [software.python, PROGRAMS / "celery_tasks.py", str(TASKS)],
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        return worker.finish(send=signal.SIGTERM), client.stdout.splitlines()


def test_celery_with_a_thread_pool(software: Software) -> None:
    software.note("program", "Celery")
    software.note("command", "`celery worker --pool threads --concurrency 4`")
    software.note("check", f"{TASKS} tasks through a filesystem broker, stamps")
    alone, plain = work(software, recorded=False)
    done, results = work(software, recorded=True)
    assert done.exit_code == alone.exit_code
    assert [r.split()[:2] for r in results] == [r.split()[:2] for r in plain]
    assert len(results) == TASKS
    seen = look_at(software, done)
    check_stamps(seen, "\n".join(results), at_least=TASKS)
    pool = seen.threads(r"ThreadPoolExecutor-0_\d")
    assert {thread["name"] for thread in pool} == {f"ThreadPoolExecutor-0_{n}" for n in range(4)}
