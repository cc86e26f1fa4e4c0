"""The program fails before its work begins."""

# /// verdict
# kind = "unknown"
# ///

import threading

threading.Thread(target=print, name="greeter").start()
raise SystemExit("no configuration")
