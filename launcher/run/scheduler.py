"""Several runs at once, each in a child process of its own."""

from __future__ import annotations

import math
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from caffebench.launcher.plan.gpu_memory import memory_note
from caffebench.launcher.plan.plan import Outcome, Plan
from caffebench.launcher.run.stopper import Stopper
from caffebench.launcher.run.supervisor import Watch, run_one
from caffebench.launcher.show.logtail import LogTail
from caffebench.launcher.show.progress import Board

__all__ = ["exit_code", "run_all", "share_out"]


def run_all(plans: Sequence[Plan], *, jobs: int, gpus: Sequence[int], board: Board) -> list[Outcome]:
    """Train all ``plans``, ``jobs`` at a time; the outcomes in the order of the plans.

    With more than one job each run has one of ``gpus`` to itself, and the CPU cores are shared out between the
    BLAS of the runs. A time limit counts from here, for all runs. SIGINT, SIGTERM and SIGHUP stop all runs with a
    snapshot; the second one ends them at once; after the last run they are ignored.
    """
    slots: queue.Queue[tuple[int, ...]] = queue.Queue()
    shares, threads = share_out(jobs, gpus, len(os.sched_getaffinity(0)))
    for share in shares:
        slots.put(share)
    waiting = iter(list(enumerate(plans)))
    outcomes: dict[int, Outcome] = {}
    stopper = Stopper()
    start = time.monotonic()
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                index, plan = next(waiting, (None, None))
            if index is None or plan is None:
                return
            if stopper.asked:
                outcomes[index] = Outcome(plan.run, "stopped", 0, "not started")
            elif plan.time_limit is not None and time.monotonic() - start > plan.time_limit - 1:
                outcomes[index] = Outcome(plan.run, "stopped", 0, "not started, the time limit is reached")
            else:
                slot = slots.get()
                if slot and (note := memory_note(plan, slot[0])):
                    board.say(note)
                left = None if plan.time_limit is None else plan.time_limit - (time.monotonic() - start)
                plan = replace(plan, gpus=slot, threads=plan.threads or threads, time_limit=left)
                outcomes[index] = run_one(plan, stopper=stopper, watch=_watch(board, plan.run))
                slots.put(slot)
            board.end(outcomes[index])

    with _mailbox() as (mailbox, send):

        def work_and_say_so() -> None:
            try:
                work()
            finally:
                os.write(send, bytes([FINISHED]))

        # Threads that live as long as their children: the kernel ties a child's death to its parent thread's.
        workers = [threading.Thread(target=work_and_say_so) for _ in range(min(jobs, len(plans)))]
        for worker in workers:
            worker.start()
        working, asked_at = len(workers), -math.inf
        while working:
            for number in os.read(mailbox, 64):
                if number == FINISHED:
                    working -= 1
                elif time.monotonic() - asked_at >= ONE_REQUEST:
                    what = "ending at once" if stopper.asked else "once more ends it at once"
                    stopper.stop()
                    asked_at = time.monotonic()
                    board.say(f"{signal.Signals(number).name}: stopping with a snapshot; {what}")
    return [outcomes[index] for index in range(len(plans))]


def share_out(jobs: int, gpus: Sequence[int], cores: int) -> tuple[list[tuple[int, ...]], int | None]:
    """What each of ``jobs`` runs at a time gets: its GPUs, and BLAS threads (None: as many as the BLAS likes).

    A single run has all GPUs. Small nets gain more from running side by side than from more threads each.
    """
    if jobs == 1:
        return [tuple(gpus)], None
    return [(gpu,) for gpu in gpus[:jobs]] or [()] * jobs, max(1, cores // jobs)


def _watch(board: Board, run: str) -> Watch:
    def look(tail: LogTail) -> None:
        board.look(run, tail)

    return Watch(say=board.say, look=look)


ONE_REQUEST = 0.3
"""Seconds in which signals are one request: of a terminal and of a script in it, SIGHUP and SIGTERM of one logout."""
FINISHED = 0
"""The byte in the mailbox that is no signal: a worker has no more to do."""


@contextmanager
def _mailbox() -> Iterator[tuple[int, int]]:
    """A pipe that gets a byte, its number, for every signal that asks for a stop.

    The signal itself writes it, whichever thread it interrupts. Python's own handlers run when the main thread next
    looks for them, which it does not while it waits: a signal just before the wait would only be seen after it.
    """
    mailbox, send = os.pipe()
    os.set_blocking(send, False)
    before = signal.set_wakeup_fd(send, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP:  # nohup stays nohup
            signal.signal(number, lambda *_: None)
    try:
        yield mailbox, send
    finally:
        # All is said and done: what comes now must change neither that nor the exit code.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(before)
        os.close(mailbox)
        os.close(send)


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """The command's exit code: a failure counts more than wrong input, and that more than a stop."""
    codes = {outcome.exit_code for outcome in outcomes}
    return next((code for code in (1, 2, 3) if code in codes), 0)
