"""One run from the launcher's side: a child process is started, watched, stopped, and started again if that helps."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from caffebench.common.child_process import task_file
from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.events import EndEvent, Event, ResumeEvent, SnapshotEvent, WeightsEvent, event_message
from caffebench.common.glog import glog_line
from caffebench.common.isolated import module_command
from caffebench.common.messages import Announce
from caffebench.launcher.init.finetuning import describe_weights
from caffebench.launcher.plan.outcome import EXIT_CODES, Outcome, Status
from caffebench.launcher.plan.plan import Plan
from caffebench.launcher.run.failures import Failure, disk_is_full, explain
from caffebench.launcher.run.finished import finished, finished_before
from caffebench.launcher.run.resources import child_environment, choose_layers
from caffebench.launcher.run.stopping import LauncherStop, StopReason
from caffebench.launcher.run.tasks import WorkerTask
from caffebench.launcher.show.logtail import LogTail
from caffebench.launcher.show.runlog import RunLog
from caffebench.launcher.solver.identity import check_same_file
from caffebench.launcher.solver.solverfile import changed_settings, parse_solver, solver_type
from caffebench.launcher.state.adopt import adopt_snapshot, give_back
from caffebench.launcher.state.record import SnapshotMetadata, read_record
from caffebench.launcher.state.seeds import new_seed
from caffebench.launcher.state.snapshots import newest_whole

__all__ = ["RunListener", "run_one"]

POLL = 0.2
"""Seconds between two checks of a child that logs nothing."""
BREATH = 0.01
"""Seconds in which lines of the log may gather."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
"""Seconds before a retry: doubled each time, up to the second figure."""
LAYERS = {"caffe": "Caffe's own layers", "fast": "the fast layers"}
"""Whose layers compute, in words."""


@dataclass
class RunListener:
    """Who wants to know about a run."""

    announce: Announce = field(default=lambda _text: None)
    """Gets sentences that people must know."""
    inform: Announce = field(default=lambda _text: None)
    """Gets what happens as it should."""
    detail: Announce = field(default=lambda _text: None)
    """Gets tests, snapshots, seeds and processes."""
    update: Callable[[LogTail], None] = field(default=lambda _tail: None)
    """Gets the log read so far."""


def run_one(plan: Plan, *, stop: LauncherStop | None = None, listener: RunListener | None = None) -> Outcome:
    """Train one run to its end, a stop or a failure that no retry can help; never raises for a failed run."""
    supervisor = _Supervisor(plan, stop or LauncherStop(), listener or RunListener())
    try:
        return supervisor.run()
    except InputError as error:
        return Outcome(plan.run, "refused", 0, str(error))
    except CaffebenchError as error:
        return Outcome(plan.run, "crashed", supervisor.iteration, str(error), supervisor.log)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = f"{where}{error.strerror or error}"
        return Outcome(plan.run, "crashed", supervisor.iteration, reason, supervisor.log)


class _Supervisor:
    def __init__(self, plan: Plan, stop: LauncherStop, listener: RunListener) -> None:
        self.plan, self.stop, self.listener = plan, stop, listener
        self.paths = plan.paths
        self.deadline = None if plan.time_limit is None else time.monotonic() + plan.time_limit
        self.iteration = 0
        self.log: Path | None = None
        self.reported: set[str] = set()
        """Events of the present session that people were told of."""
        self.last_snapshot: int | None = None
        self.last_test: int | None = None

    def run(self) -> Outcome:
        self.paths.prepare()
        with self.paths.locked() as lock:
            self.paths.discard_unfinished()
            if self.plan.fresh:
                for folder in self.paths.set_aside():
                    self.listener.announce(f"moved what was there of {self.plan.run} to {folder}")
            elif outcome := finished_before(self.plan):
                return outcome
            adopted = self._adopt()
            try:
                outcome = self._attempts(lock)
            except InputError as error:
                outcome = Outcome(self.plan.run, "refused", 0, str(error))
            if adopted is not None and outcome.status == "refused":  # or it would stand in another one's way
                reason = give_back(Path(self.plan.snapshot or ""), self.paths, adopted, outcome.reason)
                outcome = replace(outcome, reason=reason)
            return outcome

    def _adopt(self) -> int | None:
        """Make the snapshot that the run is to begin at its own, unless it has got further already: its iteration."""
        given, own = self.plan.snapshot, self.paths.iterations()
        if given is None:
            return None
        if own:
            self.listener.announce(
                f"{self.plan.run}: it has snapshots of its own and resumes from those, not from {given}"
            )
            return None
        iteration = adopt_snapshot(Path(given), self.paths, self.plan.identity)
        self.listener.announce(f"{self.plan.run}: begins at iteration {iteration}, from {given}")
        return iteration

    def _attempts(self, lock: int) -> Outcome:
        """Start the child until it ends well, or badly for good, or too often."""
        failures: list[Failure] = []
        while True:
            outcome, failure = self._session(lock)
            if failure is None or self.stop.requested:
                return outcome
            again = failures[-1:] == [failure]
            failures.append(failure)
            if not failure.retry or len(failures) > self.plan.retries or (failure.fatal and again):
                return outcome
            pause = min(FIRST_PAUSE * 2 ** (len(failures) - 1), LONGEST_PAUSE)
            if self.deadline is not None and time.monotonic() + pause > self.deadline:
                return outcome
            self.listener.announce(
                f"{self.plan.run}: {failure.message}; retry {len(failures)} of {self.plan.retries} in {pause:.0f} s"
            )
            self.stop.wait(pause)
            if self.stop.requested:
                return Outcome(self.plan.run, "stopped", self.iteration, "asked to stop", self.log)

    def _session(self, lock: int) -> tuple[Outcome, Failure | None]:
        """One child process from start to end."""
        self.paths.discard_unfinished()
        resume_from = newest_whole(self.paths, self.listener.announce)
        record = None if resume_from is None else read_record(self.paths.snapshot(resume_from).record)
        seed, changed = self._choose_seed(record)
        layers = choose_layers(self.plan, record)
        plan = replace(self.plan, layers=layers)
        if record is not None and layers != record.layers:
            changed = (*changed, f"layers: {record.layers} -> {layers}")
            self.listener.announce(
                f"{plan.run}: {LAYERS[record.layers]} computed it up to iteration {record.iteration}, "
                f"{LAYERS[layers]} do from there on"
            )
        log = RunLog(self.paths, self.listener.announce)
        try:
            self.log = log.path
            where = "from the start" if resume_from is None else f"from iteration {resume_from}"
            self.listener.inform(f"{self.plan.run}: training {where}, log {self.log}")
            task = WorkerTask(os.getpid(), plan, log.session, seed, resume_from, changed, self.deadline)
            with self._start(task, lock, log) as child:
                log.child = child.pid
                threads = "" if plan.threads is None else f", BLAS threads {plan.threads}"
                self.listener.detail(f"{plan.run}: process {child.pid}, seed {seed}, {LAYERS[layers]}{threads}")
                try:
                    self._monitor(child, log)
                finally:
                    if child.poll() is None:
                        child.kill()
                outcome, failure = self._interpret_exit(child.wait(), log)
        finally:
            log.close()
        return self._with_log(outcome, log, failure)

    def _start(self, task: WorkerTask, lock: int, log: RunLog) -> subprocess.Popen[bytes]:
        try:
            with task_file(task) as descriptor:
                return subprocess.Popen(
                    module_command("caffebench.launcher.run.worker", str(descriptor)),
                    stdin=log.answers,
                    stdout=log.sink,
                    stderr=log.sink,
                    pass_fds=(lock, descriptor),
                    env=child_environment(task.plan),
                    start_new_session=True,  # Ctrl-C is for the launcher alone, which then asks its children
                )
        finally:
            log.close_child_ends()

    def _choose_seed(self, record: SnapshotMetadata | None) -> tuple[int, tuple[str, ...]]:
        """The seed, and which settings were changed since the snapshot of ``record``."""
        if record is None:
            return (new_seed() if self.plan.seed is None else self.plan.seed), ()
        state, identity = self.paths.snapshot(record.iteration).state, record.identity
        check_same_file(identity, self.plan.identity, f"the snapshot {state}", self.plan.run)
        if record.iteration > self.plan.max_iter:
            raise InputError(
                f"{state} is of iteration {record.iteration}, and this run is to end at {self.plan.max_iter}: "
                "--fresh starts over and moves that aside, --name NAME trains a run of its own"
            )
        if self.plan.seed not in (None, record.seed):
            self.listener.announce(f"{self.plan.run}: keeps the seed {record.seed} that it was started with")
        old, new = (parse_solver(text, self.plan.prototxt) for text in (record.solver, self.plan.solver))
        before, now = solver_type(old), solver_type(new)
        if before != now:
            raise InputError(
                f"{self.plan.run} was trained up to iteration {record.iteration} by {before}, and its solver is {now} "
                "now, which cannot take over its state: start over with --fresh, or train on from its weights, as a "
                f"run of its own, with --name NAME --weights {self.paths.snapshot(record.iteration).model}"
            )
        changed = changed_settings(old, new)
        if identity is not None:
            changes = identity.changes(self.plan.identity)
            changed += [one for one in changes if not one.startswith("the ") and one not in changed]
        if changed:
            more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
            self.listener.announce(
                f"{self.plan.run}: its settings were changed since iteration {record.iteration}: "
                f"{'; '.join(changed[:4])}{more}; training continues with the new values"
            )
        return record.seed, tuple(changed)

    def _monitor(self, child: subprocess.Popen[bytes], log: RunLog) -> None:
        """Wait for the child, passing on what it logs and what is asked of it."""
        told = False
        updated = 0.0
        self.reported.clear()
        tail = log.tail
        ended = os.pidfd_open(child.pid)
        with select.epoll() as news:  # asleep but for lines of the log, an end and a request to stop
            try:
                news.register(ended, select.EPOLLIN)
                news.register(log, select.EPOLLIN)
                news.register(self.stop, select.EPOLLIN | select.EPOLLET)
                while child.poll() is None:
                    spoke = log.pump()
                    if self.stop.at_once:
                        child.kill()
                    elif not told and (self.stop.requested or log.trouble):
                        told = True
                        child.send_signal(signal.SIGTERM)
                    self.iteration = tail.iteration or self.iteration
                    if time.monotonic() - updated >= POLL:
                        self._report(tail)
                        updated = time.monotonic()
                    if spoke:
                        time.sleep(BREATH)
                    news.poll(POLL)
            finally:
                os.close(ended)
        log.drain()
        self._report(tail)

    def _report(self, tail: LogTail) -> None:
        """Pass on how far the child has got, and once what its own lines say to people."""
        self.iteration = tail.iteration or self.iteration
        self.listener.update(tail)
        if (weights := tail.event(WeightsEvent)) and self._is_news(weights):
            for sentence in describe_weights(weights):
                self.listener.inform(f"{self.plan.run}: {sentence}")
        if (snapshot := tail.event(SnapshotEvent)) and snapshot.iteration != self.last_snapshot:
            self.last_snapshot = snapshot.iteration
            self.listener.detail(f"{self.plan.run}: snapshot at iteration {snapshot.iteration}")
        if tail.tested_at not in (None, self.last_test) and tail.iteration != tail.tested_at:
            self.last_test = tail.tested_at
            figures = {"accuracy": tail.accuracy, "loss": tail.test_loss}
            shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if value is not None)
            self.listener.detail(f"{self.plan.run}: tested at iteration {tail.tested_at}: {shown}")
        if (resume := tail.event(ResumeEvent)) and self._is_news(resume) and resume.not_restored:
            self.listener.announce(f"{self.plan.run}: not restored: {', '.join(resume.not_restored)}")

    def _is_news(self, event: Event) -> bool:
        """Whether people have not been told of an event of the present session; they are now."""
        new = event.name not in self.reported
        self.reported.add(event.name)
        return new

    def _interpret_exit(self, code: int, log: RunLog) -> tuple[Outcome, Failure | None]:
        """What the child's end means; a child that could not say so itself gets its end line here."""
        tail = log.tail
        end = tail.event(EndEvent)
        status = next((one for one in EXIT_CODES if end is not None and one == end.status), None)
        if end is not None and status is not None and EXIT_CODES[status] == code:
            self.iteration = end.iteration
            reason = end.reason
            if status == "done":
                return finished(self.plan.run, self.iteration, reason, tail), None
            if status != "crashed":
                return Outcome(self.plan.run, status, self.iteration, reason, self.log), None
            reason = disk_is_full(self.paths) or reason
            failure = Failure(reason, self.iteration, retry=False, fatal=True)
            return Outcome(self.plan.run, "crashed", self.iteration, reason, self.log), failure
        if (self.stop.requested or log.trouble) and code == -signal.SIGTERM:
            # It was too young to know what to do about the signal.
            reason = f"{StopReason().reason}, nothing was trained"
            self._write_end("stopped", reason, log)
            return Outcome(self.plan.run, "stopped", self.iteration, reason, self.log), None
        failure = explain(code, tail, self.paths)
        if self.stop.at_once and code == -signal.SIGKILL:
            failure = Failure("killed on request, without a snapshot", self.iteration, retry=False)
        self._write_end("crashed", failure.message, log)
        return Outcome(self.plan.run, "crashed", self.iteration, failure.message, self.log), failure

    def _write_end(self, status: Status, reason: str, log: RunLog) -> None:
        """Write the log's last line for a child that could not do so itself."""
        end_line = event_message(EndEvent(status, self.iteration, reason))
        log.write_line(glog_line(end_line, log.child))  # in its name: lines of others are not believed

    def _with_log(self, outcome: Outcome, log: RunLog, failure: Failure | None) -> tuple[Outcome, Failure | None]:
        """An outcome whose log is not whole is none to be content with, however the training went."""
        self.log = log.path
        if log.trouble is None:
            return replace(outcome, log=log.path), failure
        kept = self.paths.iterations()
        safe = f"the snapshot of iteration {kept[0]} is intact" if kept else "there is no snapshot"
        more = f"; {outcome.reason}" if outcome.status == "crashed" else ""
        reason = f"{log.trouble}{more}; {safe}: mend that and start again"
        failure = Failure(reason, outcome.iteration, retry=False, fatal=True)
        return Outcome(outcome.run, "crashed", outcome.iteration, reason, log.path), failure
