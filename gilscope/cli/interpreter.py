"""`gilscope interpreter`: build Python Plus, tell where it is, remove it."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from pathlib import Path

from gilscope.errors import BuildError, InstallationError, UsageError
from gilscope.interpreter.release import RELEASES, VARIANTS, release, variant

HELP = "build Python Plus, a CPython with the probe inside; list, path, remove"

DEFAULT = next(iter(RELEASES))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command for each thing to do."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    about = "build it and install it for this user; what is up to date already is left as it is"
    building = _one(actions.add_parser("build", help=about, description=about))
    building.add_argument(
        "--source",
        metavar="PATH",
        type=Path,
        help="CPython's source: the archive, or the folder as it was unpacked "
        "(default: from python.org, else from Debian's source package)",
    )
    building.add_argument(
        "--sha256",
        metavar="HEX",
        help="with --source ARCHIVE: of another patch level of this version, say with security "
        "fixes; the patches must fit it",
    )
    building.set_defaults(act=_build)
    about = "the interpreters that were built, and what each has"
    actions.add_parser("list", help=about, description=about).set_defaults(act=_list)
    about = "print the path of one, for scripts"
    _one(actions.add_parser("path", help=about, description=about)).set_defaults(act=_path)
    about = "delete one, with what is left of its build"
    _one(actions.add_parser("remove", help=about, description=about)).set_defaults(act=_remove)


def _one(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options that name one interpreter."""
    parser.add_argument("version", metavar="VERSION", nargs="?", default=DEFAULT, help=DEFAULT)
    variants = "; ".join(f"{v.name}: {v.about}" for v in VARIANTS.values() if v.name)
    parser.add_argument("--variant", metavar="NAME", default="", help=variants)
    return parser


def run(args: argparse.Namespace) -> int:
    """Do what was asked for. Raises BuildError; InstallationError: there is no such interpreter."""
    code: int = args.act(args)
    return code


def _build(args: argparse.Namespace) -> int:
    from gilscope.interpreter.build import build, newest  # noqa: PLC0415 - only here
    from gilscope.interpreter.progress import progress  # noqa: PLC0415

    if args.source is not None and not args.source.exists():
        raise UsageError(f"{args.source}: there is no such archive or folder")
    wanted, kind = release(args.version), variant(args.variant)
    if args.sha256 is not None:
        if args.source is None or not args.source.is_file():
            raise UsageError("--sha256 is of an archive; name it with --source ARCHIVE")
        from gilscope.interpreter.source import release_of  # noqa: PLC0415

        wanted = release_of(args.source, args.sha256, wanted)
    elif args.source is None:
        wanted = newest(wanted, kind)
    try:
        place = build(wanted, kind, args.source, progress())
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; the same command goes on from here") from None
    print(place.python)
    return 0


def _list(args: argparse.Namespace) -> int:
    from gilscope.interpreter.check import look  # noqa: PLC0415
    from gilscope.interpreter.places import installed, python  # noqa: PLC0415

    del args
    for prefix, _ in installed():
        try:
            has = str(look(python(prefix)))
        except BuildError as error:
            has = f"broken: {error}"
        _show(f"{prefix.name:<12} ", f"{has}  {python(prefix)}")
    return 0


def _show(name: str, about: str) -> None:
    """One line, for scripts; on a terminal as many as it takes."""
    if sys.stdout.isatty():
        width, indent = shutil.get_terminal_size().columns, " " * len(name)
        line = textwrap.fill(
            name + about,
            width,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    else:
        line = name + about
    print(line)


def _path(args: argparse.Namespace) -> int:
    from gilscope.interpreter.places import Manifest, Place  # noqa: PLC0415

    place = Place.of(release(args.version), variant(args.variant))
    if Manifest.read(place.prefix) is None:
        raise InstallationError(_absent(args))
    print(place.python)
    return 0


def _remove(args: argparse.Namespace) -> int:
    from gilscope.interpreter.build import remove  # noqa: PLC0415
    from gilscope.interpreter.progress import progress  # noqa: PLC0415

    if not remove(release(args.version), variant(args.variant), progress()):
        raise InstallationError(_absent(args))
    return 0


def _absent(args: argparse.Namespace) -> str:
    options = f" --variant {args.variant}" if args.variant else ""
    return f"it is not here; build it: gilscope interpreter build {args.version}{options}"
