"""The one error tree.

GilscopeError                 anything that a user is told in one line
├── UsageError                a mistake in how gilscope was called (exit code 2)
├── TraceError                a trace or ring file that cannot be read (exit code 3)
│   └── ImpossibleStory       its events contradict each other
├── RecordingError            the program could not be started or traced
├── NotAttachable             a process that cannot be read or attached to (exit code 4)
│   ├── NotAllowed            whose memory we may not read
│   ├── ProcessGone           that is not there, or not any more
│   ├── ProcessStopped        that does not run: stopped by a signal or a debugger
│   └── Unsupported           of a kind that gilscope does not know, or without Python
├── InstallationError         a part of gilscope is missing
└── BuildError                an interpreter could not be built
"""

from __future__ import annotations


class GilscopeError(Exception):
    """Base of all errors that are shown as one line. `exit_code` is the process's."""

    exit_code = 1


class UsageError(GilscopeError):
    """gilscope was called wrongly."""

    exit_code = 2


class TraceError(GilscopeError):
    """A trace cannot be read."""

    exit_code = 3


class ImpossibleStory(TraceError):
    """Events that cannot have happened in this order; the message names file, offset, thread."""


class RecordingError(GilscopeError):
    """The program could not be recorded."""


class NotAttachable(GilscopeError):
    """A process that runs already cannot be read or attached to."""

    exit_code = 4


class NotAllowed(NotAttachable):
    """Its memory may not be read by this user."""


class ProcessGone(NotAttachable):
    """It is not there, or not any more."""


class ProcessStopped(NotAttachable):
    """It is stopped, by a signal or by a debugger."""


class Unsupported(NotAttachable):
    """There is no Python in it, or none that gilscope knows."""


class InstallationError(GilscopeError):
    """A part of gilscope, or something that it needs, is not installed."""


class BuildError(GilscopeError):
    """An interpreter could not be built; nothing was installed."""
