"""Requests that import their settings in the function that needs them.

The settings module asks a server when it is imported. The first request runs the module's body,
which takes half a second and does not compute. The five others wait for the lock of the module.
"""

# /// verdict
# kind = "import"
# thread = "request-*"
# value_ms = [200, 1200]
# site = "*tenant_settings.py:*"
# ///

import importlib
import pathlib
import sys
import tempfile
import threading
import time

SETTINGS = '''"""Settings of the tenant, from the settings server."""
import time


def ask_server():
    time.sleep(0.5)
    return {"colour": "blue"}


VALUES = ask_server()
'''


def request(number):
    time.sleep(0.2 + number * 0.01)
    settings = importlib.import_module("tenant_settings")  # CULPRIT
    for _ in range(5):
        settings.VALUES["colour"].upper()
        time.sleep(0.06)


def main():
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "tenant_settings.py").write_text(SETTINGS, encoding="utf-8")
        sys.path.insert(0, folder)
        threads = [
            threading.Thread(target=request, args=(i,), name=f"request-{i}") for i in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
