"""What a program may ask of the GIL's scheduling."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import cache


def yield_gil() -> None:
    """Give the GIL to a waiter now, if one waits.

    Under the policy io-priority it returns when another thread has had the GIL. Elsewhere, without
    gilscope in the process too, it lets the GIL go and asks for it again.
    """
    _yield()()


@cache
def _yield() -> Callable[[], object]:
    try:
        # The caller of a PyDLL's function keeps the GIL: letting it go is the function's.
        return ctypes.PyDLL(None).gilscope_yield
    except AttributeError:  # no probe in this process
        return lambda: time.sleep(0)
