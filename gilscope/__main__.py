"""`python -m gilscope` is `gilscope`, and so is this file.

The environment is the traced program's: PYTHONPATH, PYTHONINSPECT, a user's site-packages of
another version, or a numpy.py in the folder where the command is given are not meant for gilscope.
So it begins anew with an interpreter that looks at none of it, and passes on all of it.
"""

import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))


def main() -> int:
    """Run gilscope in an isolated interpreter, in this process."""
    _restore_locale()
    if not sys.flags.isolated and sys.executable:
        os.execv(sys.executable, [*itself(), *sys.argv[1:]])
    try:
        from gilscope.cli import main as run  # noqa: PLC0415 - not by an interpreter that is to go

        return run()
    except KeyboardInterrupt:  # before `run` could look after it
        print("gilscope: interrupted", file=sys.stderr)
        return 130


def itself() -> list[str]:
    """What starts this very gilscope once more."""
    return [sys.executable, "-I", os.path.join(_FOLDER, "__main__.py")]


def _restore_locale() -> None:
    """In the C locale an interpreter sets LC_CTYPE for itself, and for what it starts."""
    try:
        with open("/proc/self/environ", "rb") as file:
            given = file.read().split(b"\0")
    except OSError:
        return
    os.environ.pop("LC_CTYPE", None)
    for word in given:
        if word.startswith(b"LC_CTYPE="):
            os.environb[b"LC_CTYPE"] = word.partition(b"=")[2]


def _find_gilscope() -> None:
    """Let `import gilscope` find the package that this file belongs to."""
    from importlib.util import find_spec  # noqa: PLC0415

    found = find_spec("gilscope")
    if found is None or os.path.dirname(os.path.abspath(found.origin or "")) != _FOLDER:
        sys.path.insert(0, os.path.dirname(_FOLDER))


if __name__ == "__main__":
    if sys.flags.isolated:
        _find_gilscope()
    sys.exit(main())
