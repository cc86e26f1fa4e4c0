"""Before anything has one of them: threading's locks are those of gilscope.locks."""

import threading

from gilscope import locks

for name in locks.__all__:
    setattr(threading, name, getattr(locks, name))
