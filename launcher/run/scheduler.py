"""Several runs at once, each in a child process of its own."""

from __future__ import annotations

import os
import queue
import threading
import time
from dataclasses import replace
from functools import partial

from caffebench.launcher.gpu.memory import memory_note
from caffebench.launcher.plan.outcome import Outcome
from caffebench.launcher.plan.plan import Batch
from caffebench.launcher.run.resources import Share, share_out
from caffebench.launcher.run.stopping import LauncherStop, SignalMailbox
from caffebench.launcher.run.supervisor import RunListener, run_one
from caffebench.launcher.show.logtail import LogTail
from caffebench.launcher.show.progress import Board, Level

__all__ = ["run_all"]


def run_all(batch: Batch, board: Board) -> list[Outcome]:
    """Train all plans of a batch, ``batch.jobs`` at a time; the outcomes in the order of the plans.

    With more than one job each run has one GPU to itself, and the CPU cores are shared out between the BLAS of the
    runs. A time limit counts from here, for all runs. SIGINT, SIGTERM and SIGHUP stop all runs with a snapshot; the
    second one ends them at once; after the last run they are ignored.
    """
    slots: queue.Queue[Share] = queue.Queue()
    for share in share_out(batch.jobs, batch.gpus, len(os.sched_getaffinity(0))):
        slots.put(share)
    waiting = iter(list(enumerate(batch.plans)))
    outcomes: dict[int, Outcome] = {}
    stop = LauncherStop()
    start = time.monotonic()
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                index, plan = next(waiting, (None, None))
            if index is None or plan is None:
                return
            if stop.requested:
                outcomes[index] = Outcome(plan.run, "stopped", 0, "not started")
            elif plan.time_limit is not None and time.monotonic() - start > plan.time_limit - 1:
                outcomes[index] = Outcome(plan.run, "stopped", 0, "not started, the time limit is reached")
            else:
                share = slots.get()
                if share.gpus and (note := memory_note(plan.run, plan.solver, share.gpus[0])):
                    board.announce(note)
                left = None if plan.time_limit is None else plan.time_limit - (time.monotonic() - start)
                plan = replace(plan, gpus=share.gpus, threads=plan.threads or share.threads, time_limit=left)
                outcomes[index] = run_one(plan, stop=stop, listener=_listener(board, plan.run))
                slots.put(share)
            board.end(outcomes[index])

    with SignalMailbox.opened() as mailbox:

        def work_to_the_end() -> None:
            try:
                work()
            finally:
                mailbox.finished()

        # Threads that live as long as their children: the kernel ties a child's death to its parent thread's.
        threads = [threading.Thread(target=work_to_the_end) for _ in range(min(batch.jobs, len(batch.plans)))]
        for thread in threads:
            thread.start()
        mailbox.wait_for(len(threads), stop, board.announce)
    return [outcomes[index] for index in range(len(batch.plans))]


def _listener(board: Board, run: str) -> RunListener:
    def update(tail: LogTail) -> None:
        board.update(run, tail)

    return RunListener(
        announce=board.announce,
        inform=partial(board.announce, level=Level.NORMAL),
        detail=partial(board.announce, level=Level.DETAIL),
        update=update,
    )
