"""A source tree that is built in a moment, in the place of CPython's: a configure script that
writes a Makefile, which compiles two files and installs an interpreter.

    python -m support.fake_cpython FOLDER ARGUMENT…

is `gilscope ARGUMENT…` for the release that `FakeCPython(FOLDER)` is.
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

from gilscope.cli import main
from gilscope.interpreter import release, source

VERSION = "3.13.99"

CONFIGURE = """#!/bin/sh
for argument; do
    case $argument in --prefix=*) prefix=${argument#*=};; esac
done
echo "checking for everything... yes"
cat > Makefile <<END
prefix=$prefix
srcdir=${0%/*}
MODULE_ZLIB_STATE=yes
MODULE_READLINE_STATE=missing
END
cat "${0%/*}/Makefile.pre.in" >> Makefile
"""

# What the interpreter says of itself is what stands in the files that it was compiled from.
MAKEFILE = """
all: core.o probe.o
core.o: $(srcdir)/core.c
\tcc -c core.c || true; cp $(srcdir)/core.c core.o; echo core >> compiled
probe.o: $(srcdir)/probe.c $(wildcard $(GILSCOPE_PROBE)/*.h)
\tcc -c probe.c $(GILSCOPE_FLAGS) || true; cp $(srcdir)/probe.c probe.o; echo probe >> compiled
install: all
\tmkdir -p $(DESTDIR)$(prefix)/bin
\tsed "s/BUILT_IN/`cat probe.o`/" $(srcdir)/python.sh > $(DESTDIR)$(prefix)/bin/python3
\tchmod +x $(DESTDIR)$(prefix)/bin/python3
"""

PYTHON = f"""#!/bin/sh
case $* in
    *"-m venv"*) for folder; do :; done; mkdir -p $folder/bin; cp $0 $folder/bin/python ;;
    *"-m pip"*) echo pip ;;
    *) echo '{{"version": "{VERSION}", "missing": [], "built_in": BUILT_IN,'
       echo '"has": {{"locks": true}}}}' ;;
esac
"""

FILES = {
    "configure": CONFIGURE,
    "Makefile.pre.in": MAKEFILE,
    "core.c": "core\n",
    "probe.c": "null\n",
    "python.sh": PYTHON,
}

PATCH = """Subject: the probe

--- a/probe.c
+++ b/probe.c
@@ -1 +1 @@
-null
+7
"""


class FakeCPython:
    """A release whose archive, patches and probe lie in a folder; what is there is kept."""

    def __init__(self, folder: Path, files: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.archive = folder / f"Python-{VERSION}.tar.xz"
        self.patches, self.probe = folder / "patches", folder / "probe"
        self.tree = folder / f"Python-{VERSION}"
        if not self.archive.exists():
            for made in (self.patches, self.probe, self.tree):
                made.mkdir(parents=True)
            (self.probe / "emit.h").write_text("emit")
            self.write_series()
            for name, text in {**FILES, **(files or {})}.items():
                (self.tree / name).write_text(text)
            (self.tree / "configure").chmod(0o755)
            with tarfile.open(self.archive, "w:xz") as archive:
                archive.add(self.tree, self.tree.name)

    def write_series(self, **patches: str) -> None:
        """Make these, by name, the series."""
        for name, text in patches.items():
            (self.patches / name).write_text(text)
        (self.patches / "series").write_text("# in this order\n" + "\n".join(patches))

    def release(self, url: str = "http://127.0.0.1:9/", build_bytes: int = 0) -> release.Release:
        """Nobody answers at this address."""
        return release.Release(
            version="3.13",
            full=VERSION,
            sha256=source.sha256(self.archive),
            tree_sha256=source.tree_digest(self.tree),
            url=url,
            debian=("trixie", "python3.13"),
            build_bytes=build_bytes,
            install_bytes=0,
            patches=self.patches,
            probe=self.probe,
        )


if __name__ == "__main__":
    release.RELEASES["3.13"] = FakeCPython(Path(sys.argv[1])).release()
    sys.exit(main(sys.argv[2:]))
