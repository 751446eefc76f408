"""A process that does not outlive its parent, however that dies."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["die_with", "leave_signals_to_parent", "sheltered"]

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


@contextmanager
def sheltered() -> Iterator[None]:
    """Start in here a process that ``leave_signals_to_parent``: it holds SIGTERM back until it comes to that.

    It inherits that from its first instruction on. SIGINT and SIGHUP it is to ignore like this process, which does.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
