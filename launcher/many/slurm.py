"""Runs on a Slurm cluster: one array job for all of them, each task a launcher of one run.

A run resumes by itself wherever it is started again, so all that is left to do is to stop it with a snapshot when
Slurm says that its time is nearly up, and to have Slurm start it again. Both are submitit's: it has Slurm send a
signal ahead of the limit, calls ``checkpoint`` and requeues the task.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.isolated import module_command
from caffebench.common.printable import printable
from caffebench.launcher.plan.plan import Outcome, Plan
from caffebench.launcher.plan.planning import make_plans, parse_duration
from caffebench.launcher.run.stopper import Stopper
from caffebench.launcher.run.supervisor import Watch, run_one

__all__ = ["Task", "parse_settings", "submit"]

TIME = "4h"
"""The time limit where none is asked for. Short ones start sooner, and no run is lost to one."""
SIGNAL_AHEAD = 120
"""Seconds before the limit at which a run begins to stop: for one iteration, or one test, and a snapshot."""
FRUITLESS = 3
"""So many sessions in a row without an iteration, and the task gives up: more would not help."""
OURS = ("array", "error", "open-mode", "output", "requeue", "signal")


class _Session:
    """A run in a thread of its own: the main thread must be free for signal handlers, one of which waits for it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._stopper = Stopper()
        self._outcome: Outcome | None = None
        self._ended = False
        threading.Thread(target=self._run).start()

    def stop(self) -> None:
        """Ask for a snapshot and an end; once, as Slurm tells of one end by several signals."""
        if not self._stopper.asked:
            self._stopper.stop()

    def wait(self) -> Outcome:
        """How it ended, once it has. In short naps, without a lock: a signal's handler that interrupts it waits too."""
        while not self._ended:
            time.sleep(0.2)
        if self._outcome is None:
            raise CaffebenchError("the launcher itself failed, as said above")
        return self._outcome

    def _run(self) -> None:
        try:
            # Slurm signals every process of a task. Caffe's inherits this from here and is spared.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
            self._outcome = run_one(self._plan, stopper=self._stopper, watch=Watch(say=_say))
        finally:
            self._ended = True


@dataclass
class Task:
    """One run as Slurm starts it, and starts it again. It is planned where it runs, for what is there."""

    prototxt: Path
    options: dict[str, Any]
    """Those of ``make_plans``."""
    reached: int = -1
    """The iteration at which the session before this one was stopped."""
    fruitless: int = 0
    """How many sessions in a row have done no iteration."""
    session: _Session | None = None

    def __call__(self) -> str:
        """Train the run to its end; what it came to. Raises ``CaffebenchError`` where that is not ``done``."""
        _, _, (plan,), notes = make_plans([self.prototxt], **self.options)
        for note in notes:
            _say(note)
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
        fruitless = 0 if reached > self.reached else self.fruitless + 1
        if fruitless == FRUITLESS:
            raise CaffebenchError(
                f"{self.prototxt}: no iteration done in {FRUITLESS} sessions, so it is not started again: "
                "give it more time with --slurm time=TIME"
            )
        return DelayedSubmission(Task(self.prototxt, {**self.options, "fresh": False}, reached, fruitless))


def _preempted() -> bool:
    """Whether Slurm is making room for another job; it tells a task only that it has to go."""
    command = ["scontrol", "show", "job", os.environ.get("SLURM_JOB_ID", "")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    preempted, started = (re.search(rf"\b{name}=(\d\S+)", answer) for name in ("PreemptTime", "StartTime"))
    # Not an earlier time: then it is scancel that ends the task now. The times are written so that they sort.
    return preempted is not None and started is not None and preempted[1] >= started[1]


def _say(text: str) -> None:
    print(printable(text), flush=True)


def submit(prototxt: Sequence[Path], settings: Sequence[str], *, jobs: int | None, **options: Any) -> str:
    """Submit one array job with a task for each of ``prototxt``; a line that says what was submitted.

    ``settings`` are the user's ``key=value``, ``jobs`` how many may run at a time (None: as many as Slurm lets),
    ``options`` those of the command line. Raises ``InputError`` where there is no Slurm and for everything that
    ``make_plans`` finds wrong, ``CaffebenchError`` where Slurm refuses the job.
    """
    parameters = parse_settings(settings)
    if options.get("time_limit"):
        raise InputError(
            "--time-limit would end a run for good: use --slurm time=TIME, after which Slurm starts it again"
        )
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise InputError(
            "--executor slurm: there is no Slurm here (sbatch and srun are not in PATH); run this where jobs are "
            "submitted, or leave out --executor"
        )
    try:
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError
    except ImportError:
        raise InputError("--executor slurm needs the package submitit: pip install caffebench[slurm]") from None
    # Whether a GPU answers is a matter of the node, all else can be checked now.
    checked = {**options, "jobs": 1 if jobs is None else jobs, "gpu": None, "cpu": True}
    _, _, plans, _ = make_plans(prototxt, **checked)
    # A task starts in the folder that it was submitted from, and must not take that folder's files for Python's own.
    python = shlex.join(module_command())
    executor = submitit.SlurmExecutor(folder=Path(options["logs"]) / ".slurm", max_num_timeout=10**6, python=python)
    executor.update_parameters(**parameters, array_parallelism=jobs or len(plans))
    try:
        with redirect_stderr(io.StringIO()), executor.batch():  # what sbatch says is in the error as well
            tasks = [executor.submit(Task(Path(plan.prototxt), _options_of(plan, options))) for plan in plans]
    except (FailedJobError, FailedSubmissionError) as error:
        said = str(error).strip().splitlines()[-1].removeprefix("sbatch: error: ")
        raise CaffebenchError(f"Slurm refused the job: {said}") from None
    number = tasks[0].job_id.split("_")[0]
    runs = "1 run" if len(plans) == 1 else f"{len(plans)} runs"
    return (
        f"submitted {runs} as Slurm job {number}: squeue --job {number} shows them, scancel {number} stops them with "
        f"a snapshot, their logs go to {options['logs']}"
    )


def _options_of(plan: Plan, options: dict[str, Any]) -> dict[str, Any]:
    """The options with which its task plans this run alone."""
    return {**options, "name": plan.run, "seed": plan.identity.seed, "seeds": None}


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """The parameters of submitit's Slurm executor for ``key=value`` settings, keys being sbatch's long options.

    Raises ``InputError`` for one without a value, one that is ours to set, and a time that cannot be read.
    """
    found: dict[str, str] = {"time": TIME}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip().lstrip("-").replace("_", "-")
        if not equals or not key or not value:
            raise InputError(f"--slurm {setting}: write key=value with an option of sbatch, as in partition=gpu")
        if key in OURS:
            raise InputError(f"--slurm {setting}: {key} is set by run-caffe itself; --jobs N limits the runs at a time")
        found[key] = value
    time = _minutes(found.pop("time"))
    cpus = found.get("cpus-per-task")
    return {
        "time": time,
        "signal_delay_s": min(SIGNAL_AHEAD, time * 60 // 3),
        # Slurm does not hand this on from the job to what srun starts in it (since 22.05).
        "srun_args": [f"--cpus-per-task={cpus}"] if cpus else [],
        "job_name": found.pop("job-name", "caffebench"),
        "additional_parameters": {**found, "requeue": True},
    }


def _minutes(text: str) -> int:
    """Whole minutes, rounded up, in "8h", "90m" or one of Slurm's forms: "90", "08:00:00", "1-12", "1-12:00"."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        try:
            return -(-int(parse_duration(text)) // 60)
        except InputError:
            raise InputError(f"--slurm time={text}: write a time such as 8h, 1h30m, 90m, or as sbatch does") from None
    days, first, second, third = (int(part) if part else 0 for part in match.groups())
    if match[1] is None and match[4] is None:  # minutes, or minutes:seconds
        seconds = first * 60 + second
    else:  # hours:minutes:seconds
        seconds = ((days * 24 + first) * 60 + second) * 60 + third
    return max(1, -(-seconds // 60))
