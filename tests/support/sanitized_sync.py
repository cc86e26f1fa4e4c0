"""A pytest plugin: gilscope's native types from the library that SANITIZED_SYNC names."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ExtensionFileLoader

_NAME = "gilscope._sync"

loader = ExtensionFileLoader(_NAME, os.environ["SANITIZED_SYNC"])
spec = importlib.util.spec_from_loader(_NAME, loader)
assert spec is not None
assert _NAME not in sys.modules
sys.modules[_NAME] = importlib.util.module_from_spec(spec)
loader.exec_module(sys.modules[_NAME])
