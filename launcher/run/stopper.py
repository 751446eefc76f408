"""Asking runs to stop, in the launcher."""

from __future__ import annotations

import os
import select
import weakref

__all__ = ["Stopper"]


class Stopper:
    """Asks runs to stop, from a signal handler or another thread; a second request does not wait for snapshots.

    Its file descriptor is readable from the first request on, and epoll sees every one of them as an edge.
    """

    def __init__(self) -> None:
        """Nothing has been asked for yet."""
        self._requests = 0
        self._descriptor = os.eventfd(0)
        weakref.finalize(self, os.close, self._descriptor)

    def stop(self) -> None:
        """Ask once more."""
        self._requests += 1
        os.eventfd_write(self._descriptor, 1)

    def fileno(self) -> int:
        """The file descriptor."""
        return self._descriptor

    @property
    def asked(self) -> bool:
        """Whether runs are to stop, with a snapshot."""
        return self._requests > 0

    @property
    def impatient(self) -> bool:
        """Whether runs are to end at once."""
        return self._requests > 1

    def wait(self, seconds: float) -> None:
        """Sleep, but not through a request to stop."""
        select.select([self], [], [], seconds)
