"""One run as Slurm starts it, and starts it again.

A run resumes by itself wherever it is started again, so all that is left to do is to stop it with a snapshot when
Slurm says that its time is nearly up, and to have Slurm start it again. Both are submitit's: it has Slurm send a
signal ahead of the limit, calls ``checkpoint`` and requeues the task.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import threading
from dataclasses import dataclass, replace
from typing import Any

from caffebench.common.errors import CaffebenchError
from caffebench.common.printable import printable
from caffebench.launcher.plan.options import RunOptions
from caffebench.launcher.plan.outcome import Outcome
from caffebench.launcher.plan.plan import Plan
from caffebench.launcher.plan.planning import make_plans
from caffebench.launcher.run.stopping import LauncherStop
from caffebench.launcher.run.supervisor import RunListener, run_one

__all__ = ["SlurmTask"]

MAX_IDLE_SESSIONS = 3
"""So many sessions in a row without an iteration, and the task gives up: more would not help."""


class _Session:
    """A run in a thread of its own: the main thread must be free for signal handlers, one of which waits for it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._stop = LauncherStop()
        self._outcome: Outcome | None = None
        self._ended = os.eventfd(0)
        threading.Thread(target=self._run).start()

    def stop(self) -> None:
        """Ask for a snapshot and an end; once, as Slurm tells of one end by several signals."""
        if not self._stop.requested:
            self._stop.request()

    def wait(self) -> Outcome:
        """How it ended, once it has. Without a lock: a signal's handler that interrupts this waits too."""
        select.select([self._ended], [], [])
        if self._outcome is None:
            raise CaffebenchError("the launcher itself failed, as said above")
        return self._outcome

    def _run(self) -> None:
        try:
            # Slurm signals every process of a task. Caffe's inherits this from here and is spared.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
            self._outcome = run_one(self._plan, stop=self._stop, listener=RunListener(announce=_report, inform=_report))
        finally:
            os.eventfd_write(self._ended, 1)


@dataclass
class SlurmTask:
    """One run. It is planned where it runs, for what is there."""

    options: RunOptions
    """With one file, and the run's name."""
    reached: int = -1
    """The iteration at which the session before this one was stopped."""
    idle_sessions: int = 0
    """How many sessions in a row have done no iteration."""
    session: _Session | None = None

    def __call__(self) -> str:
        """Train the run to its end; what it came to. Raises ``CaffebenchError`` where that is not ``done``."""
        batch = make_plans(self.options)
        for note in batch.notes:
            _report(note)
        (plan,) = batch.plans
        # Requeued after its node failed, a task is the one that was submitted: it must not start over again.
        requeued = int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
        cpus = int(os.environ.get("SLURM_CPUS_PER_TASK", 1))
        self.session = _Session(replace(plan, fresh=plan.fresh and not requeued, threads=plan.threads or cpus))
        signal.signal(signal.SIGTERM, self._on_term)  # which submitit ignores
        outcome = self.session.wait()
        if outcome.status != "done":
            raise CaffebenchError(f"{outcome.run}: {outcome.status} at iteration {outcome.iteration}: {outcome.reason}")
        return f"{outcome.run}: done"

    def _on_term(self, *_: Any) -> None:
        """Slurm is about to end the task: preempted it starts again like one whose time is up, cancelled it stops."""
        if self.session is not None:
            self.session.stop()
        if _preempted():
            from submitit.slurm.slurm import SlurmJobEnvironment

            os.kill(os.getpid(), getattr(signal, f"SIG{SlurmJobEnvironment.USR_SIG}"))

    def checkpoint(self) -> Any:
        """Stop the run with a snapshot; what is to be started next time. submitit's signal handler calls this."""
        from submitit.helpers import DelayedSubmission

        reached = self.reached
        if self.session is not None:
            self.session.stop()
            reached = max(self.session.wait().iteration, reached)
        idle = 0 if reached > self.reached else self.idle_sessions + 1
        if idle == MAX_IDLE_SESSIONS:
            raise CaffebenchError(
                f"{self.options.prototxt[0]}: no iteration done in {MAX_IDLE_SESSIONS} sessions, so it is not started "
                "again: give it more time with --slurm time=TIME"
            )
        return DelayedSubmission(SlurmTask(replace(self.options, fresh=False), reached, idle))


def _preempted() -> bool:
    """Whether Slurm is making room for another job; it tells a task only that it has to go."""
    command = ["scontrol", "show", "job", os.environ.get("SLURM_JOB_ID", "")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    preempted, started = (re.search(rf"\b{name}=(\d\S+)", answer) for name in ("PreemptTime", "StartTime"))
    # Not an earlier time: then it is scancel that ends the task now. The times are written so that they sort.
    return preempted is not None and started is not None and preempted[1] >= started[1]


def _report(text: str) -> None:
    print(printable(text), flush=True)
