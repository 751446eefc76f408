"""A process that does not outlive its parent, however that dies."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["die_with", "leave_signals_to_parent"]

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` dies; it may have died already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def leave_signals_to_parent(*but: int) -> None:
    """Ignore what asks processes to end, ``but`` some: it may be sent to all of them, and the parent ends its own."""
    for number in {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} - set(but):
        signal.signal(number, signal.SIG_IGN)
