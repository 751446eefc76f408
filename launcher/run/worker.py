"""The child process that Caffe lives in: ``python -m caffebench.launcher.run.worker FD``, its assignment in that file.

A failed CHECK ends this process and nothing else. Standard error is the run's log: the launcher reads it,
and answers on standard input when all that was said ahead of a snapshot is in the file. SIGTERM asks for a stop.
"""

from __future__ import annotations

import importlib.metadata
import json
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

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.lifeline import die_with, leave_signals_to_parent
from caffebench.engine import fast
from caffebench.engine.pycaffe import import_caffe
from caffebench.launcher.plan.plan import Plan
from caffebench.launcher.run import ranks
from caffebench.launcher.run.solver_setup import start
from caffebench.launcher.run.training import TIME_IS_UP, Stop, StopRequest, StopSign, Training
from caffebench.launcher.show.logtail import log_event
from caffebench.launcher.solver.schedule import Phase, parse_phases

__all__ = ["EXIT_CODES", "main"]

LOG_PATIENCE = 10.0
"""Seconds that the launcher may take to write what was logged."""
EXIT_CODES = {"done": 0, "stopped": 3, "refused": 2, "not_converged": 4, "crashed": 1}


def main() -> NoReturn:
    """Read the assignment, train, and leave with one of ``EXIT_CODES``."""
    with open(int(sys.argv[1]), "rb") as file:
        assignment = json.load(file)
    die_with(assignment["parent"])
    plan = Plan.from_json(assignment["plan"])
    sys.path += plan.python_path  # behind all others: what lies there takes nobody's place
    caffe = import_caffe()
    caffe.init_log(0, True)  # to standard error, with a stack trace on SIGSEGV as the caffe tool gives
    child = Child(plan, assignment, caffe)
    try:
        status, reason = child.run()
    except InputError as error:
        status, reason = "refused", str(error)
    except (CaffebenchError, OSError) as error:
        status, reason = "crashed", str(error)
    except Exception as error:
        traceback.print_exc()
        status, reason = "crashed", f"{type(error).__name__}: {error}{_place(error)}"
    child.say("end", {"status": status, "iteration": child.iteration, "reason": reason})
    sys.stderr.flush()
    # Not through the interpreter's end: joining Caffe's data threads there can hang, and all is said and saved.
    os._exit(EXIT_CODES[status])


def _place(error: Exception) -> str:
    """Where a Python layer has raised an error, in words; nothing for errors of ours."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    if Path(last.filename).is_relative_to(Path(__file__).parents[1]):
        return ""
    return f" (in {os.path.relpath(last.filename)}, line {last.lineno})"


class Child:
    """One session of a run."""

    def __init__(self, plan: Plan, assignment: dict[str, Any], caffe: Any) -> None:
        self.plan, self.caffe = plan, caffe
        self.session: int = assignment["session"]
        self.resume_from: int | None = assignment["resume_from"]
        self.began_at = self.resume_from or 0
        self.seed: int = assignment["seed"]
        self.changed: list[str] = assignment["changed"]
        self.sign = StopSign(deadline=assignment["deadline"])
        self.building = False
        self.training: Training | None = None
        self.team: ranks.Team | None = None
        signal.signal(signal.SIGTERM, self._on_term)
        leave_signals_to_parent(signal.SIGTERM)
        if self.sign.deadline is not None:
            signal.signal(signal.SIGALRM, self._on_alarm)
            signal.setitimer(signal.ITIMER_REAL, max(self.sign.deadline - time.monotonic(), 1e-6))

    @property
    def iteration(self) -> int:
        """The iteration that training stands at."""
        return int(self.training.solver.iter) if self.training else self.resume_from or 0

    def say(self, event: str, content: dict[str, Any]) -> None:
        """Put a line of ours into Caffe's log."""
        self.caffe.log(log_event(event, content))

    def _wait_for_log(self, iteration: int) -> None:
        """Have the launcher put into the log's file what was said so far, and say so.

        A run that is resumed at a snapshot logs nothing of before it again: a launcher that is killed must not take
        lines with it. One that does not answer is not waited for.
        """
        self.say("snapshot", {"iteration": iteration})
        if select.select([0], [], [], LOG_PATIENCE)[0]:
            os.read(0, 1)

    def _on_term(self, _signal: int, _frame: Any) -> None:
        self._stop(StopRequest())

    def _on_alarm(self, _signal: int, _frame: Any) -> None:
        """Stop at the time limit; training has looked ahead to it and is over by then, or as good as."""
        self._stop(TIME_IS_UP)

    def _stop(self, request: StopRequest) -> None:
        self.sign.request = self.sign.request or request
        if self.building:  # which may take minutes, and leaves nothing to save; an iteration is ended first
            raise Stop

    def run(self) -> tuple[str, str]:
        """Train: the status and the reason that the end line states."""
        try:
            done = self._train()
        except Stop:
            done = False
        if done:
            return "done", ""
        request = self.sign.request or StopRequest()
        nothing = ", nothing was trained" if self.iteration == self.began_at else ""
        return request.status, request.reason + nothing

    def _train(self) -> bool:
        """Train all phases that are left: False after a stop."""
        plan = self.plan
        self.say(
            "run",
            {
                "run": plan.run,
                "session": self.session,
                "version": importlib.metadata.version("caffebench"),
                "prototxt": plan.prototxt,
                "header": plan.header,
                "seed": self.seed,
                "layers": plan.layers,
                "identity": asdict(plan.identity),
                "notes": plan.notes,
                "pid": os.getpid(),
                "host": socket.gethostname(),
            },
        )
        self._choose_device()
        phases = parse_phases(plan.header, plan.max_iter)
        at = self.resume_from
        for phase in phases:
            if at is not None and at >= phase.until and phase is not phases[-1]:
                continue
            training = self._begin(phase, at)
            if len(phases) > 1:
                self.say("phase", {"iteration": training.solver.iter, **vars(phase)})
            self.caffe.log("Starting Optimization")
            if not training.solve(phase.until):
                return False
            at = self.iteration
        return True

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
        """Build the solver of a phase, in the place of the one before. Raises ``Stop`` where that is asked for."""
        self.building = True
        if self.sign.request is not None:
            raise Stop
        if self.training is not None:
            self.resume_from = resume_from
            before, self.training = self.training, None
            before.close()
            if self.team is not None:
                self.team.close()
        if len(self.plan.gpus) > 1:
            self.team = ranks.Team(self.caffe, self.plan, phase, seed=self.seed, resume_from=resume_from)
        training = start(
            self.caffe,
            self.plan,
            phase,
            seed=self.seed,
            resume_from=resume_from,
            changed=self.changed,
            say=self.say,
        )
        training.begin()
        if self.team is not None:
            self.team.join(training.solver)
            count, batch = len(self.plan.gpus), training.batch_size * training.parameter.iter_size
            self.caffe.log(f"A batch of {batch} on each of {count} GPUs: {count * batch} records an iteration")
        training.sign = self.sign
        training.before_snapshot = self._wait_for_log
        self.training = training
        self.building = False
        return training


if __name__ == "__main__":
    main()
