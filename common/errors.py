"""The errors that users see. The library raises them; only the command line turns them into exit codes.

A message names the culprit, the valid choices and the way out, in one line.
"""

__all__ = ["CaffebenchError", "InputError", "StoppedError"]


class CaffebenchError(Exception):
    """Something failed although the request was sound: exit code 1."""

    exit_code = 1


class InputError(CaffebenchError):
    """The request or a file that it names is wrong: exit code 2."""

    exit_code = 2


class StoppedError(CaffebenchError):
    """The work was stopped on request and can be resumed: exit code 3."""

    exit_code = 3
