"""The child process that Caffe lives in: ``python -m caffebench.launcher.run.worker FD``, its task in that file.

A failed CHECK ends this process and nothing else. Standard error is the run's log: the launcher reads it,
and answers on standard input when all that was said ahead of a snapshot is in the file. SIGTERM asks for a stop.
"""

from __future__ import annotations

import importlib.metadata
import os
import select
import signal
import socket
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from caffebench.common.child_process import die_with, ignore_stop_signals, read_task
from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.events import EndEvent, Event, PhaseEvent, RunEvent, SnapshotEvent, event_message
from caffebench.engine import fast
from caffebench.engine.pycaffe import import_caffe
from caffebench.launcher.plan.outcome import EXIT_CODES, Status
from caffebench.launcher.run import ranks
from caffebench.launcher.run.solver_setup import prepare_solver
from caffebench.launcher.run.stopping import TIME_IS_UP, StopReason, StopTraining, TrainingStop
from caffebench.launcher.run.tasks import WorkerTask
from caffebench.launcher.run.training import Training
from caffebench.launcher.solver.schedule import Phase, parse_phases
from caffebench.launcher.solver.solverfile import parse_solver, solver_settings
from caffebench.launcher.state.datastate import batch_images, training_images

__all__ = ["main"]

LOG_PATIENCE = 10.0
"""Seconds that the launcher may take to write what was logged."""
LONGEST_SETTINGS = 8000
"""Characters of a solver's settings that may stand in a line, which glog cuts at 30,000."""


def main() -> NoReturn:
    """Read the task, train, and leave with the exit code of what came of it."""
    task = read_task(WorkerTask, int(sys.argv[1]))
    die_with(task.parent)
    sys.path += task.plan.python_path  # behind all others: what lies there takes nobody's place
    caffe = import_caffe()
    caffe.init_log(0, True)  # to standard error, with a stack trace on SIGSEGV as the caffe tool gives
    session = Session(task, caffe)
    status: Status
    try:
        status, reason = session.run()
    except InputError as error:
        status, reason = "refused", str(error)
    except (CaffebenchError, OSError) as error:
        status, reason = "crashed", str(error)
    except Exception as error:
        traceback.print_exc()
        status, reason = "crashed", f"{type(error).__name__}: {error}{_place(error)}"
    session.log(EndEvent(status, session.iteration, reason))
    sys.stderr.flush()
    # Not through the interpreter's end: joining Caffe's data threads there can hang, and all is said and saved.
    os._exit(EXIT_CODES[status])


def _place(error: Exception) -> str:
    """Where a Python layer has raised an error, in words; nothing for errors of ours."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    if Path(last.filename).is_relative_to(Path(__file__).parents[1]):
        return ""
    return f" (in {os.path.relpath(last.filename)}, line {last.lineno})"


class Session:
    """One session of a run."""

    def __init__(self, task: WorkerTask, caffe: Any) -> None:
        """Listen to requests to stop; ``run`` trains."""
        self.task, self.plan, self.caffe = task, task.plan, caffe
        self.resume_from = task.resume_from
        self.stop = TrainingStop(deadline=task.deadline)
        self.building = False
        self.training: Training | None = None
        self.ranks: ranks.RankGroup | None = None
        signal.signal(signal.SIGTERM, self._on_term)
        ignore_stop_signals(signal.SIGTERM)
        if task.deadline is not None:
            signal.signal(signal.SIGALRM, self._on_alarm)
            signal.setitimer(signal.ITIMER_REAL, max(task.deadline - time.monotonic(), 1e-6))

    @property
    def iteration(self) -> int:
        """The iteration that training stands at."""
        return int(self.training.solver.iter) if self.training else self.resume_from or 0

    def log(self, event: Event) -> None:
        """Put a line of ours into Caffe's log."""
        self.caffe.log(event_message(event))

    def _wait_for_log(self, iteration: int) -> None:
        """Have the launcher put into the log's file what was logged so far, and answer.

        A run that is resumed at a snapshot logs nothing of before it again: a launcher that is killed must not take
        lines with it. One that does not answer is not waited for.
        """
        self.log(SnapshotEvent(iteration))
        if select.select([0], [], [], LOG_PATIENCE)[0]:
            os.read(0, 1)

    def _on_term(self, _signal: int, _frame: Any) -> None:
        self._stop(StopReason())

    def _on_alarm(self, _signal: int, _frame: Any) -> None:
        """Stop at the time limit; training has looked ahead to it and is over by then, or as good as."""
        self._stop(TIME_IS_UP)

    def _stop(self, reason: StopReason) -> None:
        self.stop.request(reason)
        if self.building:  # which may take minutes, and leaves nothing to save; an iteration is ended first
            raise StopTraining

    def run(self) -> tuple[Status, str]:
        """Train: the status and the reason for the end line."""
        try:
            done = self._train()
        except StopTraining:
            done = False
        if done:
            return "done", ""
        found = self.stop.reason or StopReason()
        nothing = ", nothing was trained" if self.iteration == (self.task.resume_from or 0) else ""
        return found.status, found.reason + nothing

    def _train(self) -> bool:
        """Train all phases that are left: False after a stop."""
        plan = self.plan
        solver = parse_solver(plan.solver, plan.prototxt)
        settings = solver_settings(solver)
        phases = parse_phases(plan.header, plan.max_iter)
        self.log(
            RunEvent(
                run=plan.run,
                session=self.task.session,
                version=importlib.metadata.version("caffebench"),
                prototxt=plan.prototxt,
                header=plan.header,
                seed=self.task.seed,
                layers=plan.layers or "caffe",
                identity=asdict(plan.identity),
                solver=settings if len(settings) < LONGEST_SETTINGS else "",
                train_size=training_images(solver),
                phases=tuple((one.until, self._images(one)) for one in phases) if len(phases) > 1 else (),
                notes=plan.notes,
                pid=os.getpid(),
                host=socket.gethostname(),
            )
        )
        self._choose_device()
        at = self.resume_from
        for phase in phases:
            if at is not None and at >= phase.until and phase is not phases[-1]:
                continue
            training = self._begin(phase, at)
            if len(phases) > 1:
                self.log(PhaseEvent(training.solver.iter, **vars(phase)))
            self.caffe.log("Starting Optimization")
            if not training.solve(phase.until):
                return False
            at = self.iteration
        return True

    def _images(self, phase: Phase) -> int:
        """Images of an iteration in ``phase``."""
        parameter = parse_solver(self.plan.solver, self.plan.prototxt)
        phase.apply(parameter)
        return batch_images(parameter) * int(parameter.iter_size) * max(len(self.plan.gpus), 1)

    def _choose_device(self) -> None:
        gpus = self.plan.gpus
        if gpus:
            self.caffe.log(f"Using GPUs {', '.join(map(str, gpus))}")
            ranks.use_gpu(self.caffe, gpus, 0)
        else:
            self.caffe.log("Use CPU.")
            self.caffe.set_mode_cpu()
            if self.plan.layers == "fast":
                fast.load()

    def _begin(self, phase: Phase, resume_from: int | None) -> Training:
        """Build the solver of a phase, in the place of the one before. Raises ``StopTraining`` on a request to stop."""
        self.building = True
        if self.stop.reason is not None:
            raise StopTraining
        if self.training is not None:
            self.resume_from = resume_from
            before, self.training = self.training, None
            before.close()
            if self.ranks is not None:
                self.ranks.close()
        seed = self.task.seed
        if len(self.plan.gpus) > 1:
            self.ranks = ranks.RankGroup(self.caffe, self.plan, phase, seed=seed, resume_from=resume_from)
        training = prepare_solver(
            self.caffe,
            self.plan,
            phase,
            seed=seed,
            resume_from=resume_from,
            changed=self.task.changed,
            stop=self.stop,
            report=self.log,
            before_snapshot=self._wait_for_log,
        )
        training.begin()
        if self.ranks is not None:
            self.ranks.join(training.solver)
            count, batch = len(self.plan.gpus), training.batch_size * training.parameter.iter_size
            self.caffe.log(f"A batch of {batch} on each of {count} GPUs: {count * batch} records an iteration")
        self.training = training
        self.building = False
        return training


if __name__ == "__main__":
    main()
