"""Apache with mod_wsgi: a process of eight threads that gilscope did not start, and cannot."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

from software.harness import PROGRAMS, Software, free_port
from support.recorded import GILSCOPE

import gilscope
from gilscope.attach.tree import descendants

CYCLES = int(os.environ.get("GILSCOPE_TEST_CYCLES", "3"))
MODULES = Path("/usr/lib/apache2/modules")
SETUP = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/pid
ErrorLog {folder}/error.log
Listen 127.0.0.1:{port}
{user}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
WSGISocketPrefix {sockets}/wsgi
WSGIDaemonProcess app processes=1 threads=8 display-name=wsgi
WSGIProcessGroup app
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / {program}
<Directory {programs}>
Require all granted
</Directory>
"""


def daemon(parent: int) -> int:
    """The process that runs Python: it has a name of its own."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(parent)}
    (pid,) = (pid for pid, line in lines.items() if line.startswith(b"wsgi"))
    return pid


def test_mod_wsgi_attached_while_it_serves(software: Software) -> None:
    """Again and again: no request fails, the process stays the same."""
    port = free_port()
    sockets = Path("/tmp")  # a socket's name is short, and another user comes by it
    programs = Path("/tmp", f"gilscope-wsgi-{os.getpid()}")  # may be read by that user
    programs.mkdir()
    program = programs / "wsgi_app.py"
    program.write_text((PROGRAMS / "wsgi_app.py").read_text())
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    setup = software.folder / "httpd.conf"
    setup.write_text(
        SETUP.format(
            folder=software.folder,
            port=port,
            user=user,
            modules=MODULES,
            sockets=sockets,
            program=program,
            programs=programs,
        )
    )
    command = ["apache2", "-DFOREGROUND", "-d", str(software.folder), "-f", str(setup)]
    try:
        with software.started(command, recorded=False) as server:
            server.listens(port)
            url = f"http://127.0.0.1:{port}/"
            subprocess.run(["ab", "-q", "-n", "1", url], check=True, capture_output=True)
            pid = daemon(server.process.pid)
            with subprocess.Popen(
                ["ab", "-q", "-t", "3600", "-n", "100000000", "-c", "8", url],
                stdout=subprocess.PIPE,
                text=True,
            ) as client:
                for _ in range(CYCLES):
                    attached(software, pid)
                assert client.poll() is None  # requests came all the time
                client.send_signal(signal.SIGINT)  # ab tells what it has counted
                counted = client.communicate(timeout=60)[0]
            assert re.findall(r"(Failed|Non-2xx).*?(\d+)", counted) == [("Failed", "0")]
            assert daemon(server.process.pid) == pid
            server.finish(send=signal.SIGTERM)
        assert "Segmentation" not in (software.folder / "error.log").read_text()
    finally:
        program.unlink()
        programs.rmdir()


def attached(software: Software, pid: int) -> None:
    trace = software.folder / "out.pftrace"
    done = subprocess.run(
        [*GILSCOPE, "attach", str(pid), "-d", "0.5", "--no-summary", "-o", str(trace)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = gilscope.read(trace)
    assert len(read.holds) > 20
    assert len(read.metadata.threads) >= 8
