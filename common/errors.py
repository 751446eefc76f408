"""The errors that users see, and the exit codes of all commands.

The library raises errors; only the command line turns them into exit codes. A message names the culprit, the valid
choices and the way out, in one line.
"""

from enum import IntEnum

__all__ = ["CaffebenchError", "ExitCode", "InputError", "StoppedError"]


class ExitCode(IntEnum):
    """What a command's exit code says."""

    DONE = 0
    FAILED = 1
    INPUT = 2
    """Wrong usage or input."""
    STOPPED = 3
    """Stopped on request; can be resumed."""


class CaffebenchError(Exception):
    """Something failed although the request was sound."""

    exit_code = ExitCode.FAILED


class InputError(CaffebenchError):
    """The request or a file that it names is wrong."""

    exit_code = ExitCode.INPUT


class StoppedError(CaffebenchError):
    """The work was stopped on request and can be resumed."""

    exit_code = ExitCode.STOPPED
