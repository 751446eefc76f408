"""Stopping a run, from the user's Ctrl-C to Caffe's loop.

Who asks whom: a signal asks the launcher (``LauncherStop``), for all of its runs. The launcher's supervisor of each run
asks its training process, by SIGTERM. There that signal, or the clock at a time limit, leaves a ``StopReason`` with
``TrainingStop``, which the training loop reads between two iterations and obeys by raising ``StopTraining`` through
Caffe.
"""

from __future__ import annotations

import math
import os
import select
import signal
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from caffebench.common.messages import Announce
from caffebench.launcher.plan.outcome import Status

__all__ = ["TIME_IS_UP", "LauncherStop", "SignalMailbox", "StopReason", "StopTraining", "TrainingStop"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_REQUEST = 0.3
"""Seconds in which signals are one request: of a terminal and of a script in it, SIGHUP and SIGTERM of one logout."""


class LauncherStop:
    """What the user, or Slurm, has asked the launcher for; a second request does not wait for snapshots.

    Its file descriptor is readable from the first request on, and epoll sees every one of them as an edge.
    """

    def __init__(self) -> None:
        """Nothing has been asked for yet."""
        self._requests = 0
        self._descriptor = os.eventfd(0)
        weakref.finalize(self, os.close, self._descriptor)

    def request(self) -> None:
        """Ask once more; from a signal handler or any thread."""
        self._requests += 1
        os.eventfd_write(self._descriptor, 1)

    def fileno(self) -> int:
        """The file descriptor."""
        return self._descriptor

    @property
    def requested(self) -> bool:
        """Whether runs are to stop, with a snapshot."""
        return self._requests > 0

    @property
    def at_once(self) -> bool:
        """Whether runs are to end at once, without one."""
        return self._requests > 1

    def wait(self, seconds: float) -> None:
        """Sleep, but not through a request."""
        select.select([self], [], [], seconds)


@dataclass(frozen=True)
class StopReason:
    """Why a training process is to stop, and whether its state is worth a snapshot."""

    status: Status = "stopped"
    reason: str = "asked to stop"
    snapshot: bool = True


TIME_IS_UP = StopReason(reason="the time limit is reached")


@dataclass
class TrainingStop:
    """Whether the training in this process is to stop: written by signal handlers, read between two iterations."""

    reason: StopReason | None = None
    deadline: float | None = None
    """``time.monotonic()``, the same in all processes, at which the state must be safe."""

    def request(self, reason: StopReason) -> None:
        """Leave a reason to stop; the first one counts."""
        self.reason = self.reason or reason


class StopTraining(BaseException):
    """Leave Caffe's loop now, between two iterations or in the middle of a test."""


class SignalMailbox:
    """A pipe that gets a byte, its number, for every signal that asks the launcher to stop.

    The signal itself writes it, whichever thread it interrupts. Python's own handlers run when the main thread next
    looks for them, which it does not while it waits: a signal just before the wait would only be seen after it.
    """

    FINISHED = 0
    """The byte that is no signal: a thread of the launcher has no more to do."""

    def __init__(self, receive: int, send: int) -> None:
        """Use the two ends of a pipe; ``opened`` makes them."""
        self._receive, self._send = receive, send

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[SignalMailbox]:
        """Catch the signals in here; behind it they are ignored: neither an outcome nor the exit code is to change."""
        receive, send = os.pipe()
        os.set_blocking(send, False)
        before = signal.set_wakeup_fd(send, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP:  # nohup stays nohup
                signal.signal(number, lambda *_: None)
        try:
            yield cls(receive, send)
        finally:
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            signal.set_wakeup_fd(before)
            os.close(receive)
            os.close(send)

    def finished(self) -> None:
        """Say that one thread has no more to do; called by that thread."""
        os.write(self._send, bytes([self.FINISHED]))

    def wait_for(self, threads: int, stop: LauncherStop, announce: Announce) -> None:
        """Until so many threads have finished, hand on to ``stop`` what signals ask for, and ``announce`` so."""
        requested_at = -math.inf
        while threads:
            for number in os.read(self._receive, 64):
                if number == self.FINISHED:
                    threads -= 1
                elif time.monotonic() - requested_at >= ONE_REQUEST:
                    what = "ending at once" if stop.requested else "once more ends it at once"
                    stop.request()
                    requested_at = time.monotonic()
                    announce(f"{signal.Signals(number).name}: stopping with a snapshot; {what}")
