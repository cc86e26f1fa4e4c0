"""ctypes.util.find_library starts other programs with an environment of its own."""

# /// verdict
# kind = "nothing"
# ///

import ctypes.util

ctypes.util.find_library("m")
