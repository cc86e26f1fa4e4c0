"""The one error tree.

GilscopeError                 anything that a user is told in one line
├── UsageError                a mistake in how gilscope was called (exit code 2)
├── TraceError                a trace or ring file that cannot be read (exit code 3)
│   └── ImpossibleStory       its events contradict each other
├── RecordingError            the program could not be started or traced
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


class InstallationError(GilscopeError):
    """A part of gilscope, or something that it needs, is not installed."""


class BuildError(GilscopeError):
    """An interpreter could not be built; nothing was installed."""
