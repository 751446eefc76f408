"""What a command says beside its results, on stderr: nothing with ``-q`` but errors, more with ``-v``.

Results go to stdout, whatever is asked for here. Nothing heavy is imported: this is on the path of every command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from caffebench.common.printable import printable

__all__ = ["Announce", "announce", "detail", "is_quiet", "is_verbose", "set_verbosity"]

Announce = Callable[[str], None]
"""Takes a line that a user should know: `announce`, or what stands in its place."""
_verbosity = 0


def set_verbosity(level: int) -> None:
    """Say nothing (-1), what a user should know (0), or also what is done on the way (1), from now on."""
    global _verbosity  # one for the process: its command line says it
    _verbosity = level


def is_quiet() -> bool:
    """Whether nothing but results and errors is to be shown, no progress either."""
    return _verbosity < 0


def is_verbose() -> bool:
    """Whether what is done on the way is to be shown too."""
    return _verbosity > 0


def announce(line: str) -> None:
    """What a user should know: a note, a warning, the step that takes a while."""
    if _verbosity >= 0:
        _write(line)


def detail(line: str) -> None:
    """What is done on the way, for those who ask with ``-v``."""
    if _verbosity > 0:
        _write(line)


def _write(line: str) -> None:
    # Not click.echo, whose stderr a live progress bar cannot stand in for.
    sys.stderr.write(f"{printable(line)}\n")
    sys.stderr.flush()
