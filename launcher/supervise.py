"""One run from the launcher's side: a child process is started, watched, stopped, and started again if that helps."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.isolated import module_command
from caffebench.launcher.adopt import adopt_snapshot
from caffebench.launcher.failures import Failure, disk_is_full, explain
from caffebench.launcher.finetuning import describe_weights
from caffebench.launcher.identity import Earlier, check_same_file, read_earlier, read_identity
from caffebench.launcher.logtail import LogTail, glog_line, log_event
from caffebench.launcher.plan import Outcome, Plan, Status
from caffebench.launcher.record import read_record
from caffebench.launcher.seeds import new_seed
from caffebench.launcher.snapshots import newest_whole
from caffebench.launcher.solverfile import differences, parse_solver, solver_type
from caffebench.launcher.training import StopRequest
from caffebench.launcher.worker import EXIT_CODES

__all__ = ["Stopper", "Watch", "run_one"]

POLL = 0.2
"""Seconds between two looks at the child's log."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
"""Seconds before a retry: doubled each time, up to the second figure."""


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


@dataclass
class Watch:
    """Who wants to know about a run: ``say`` gets sentences for people, ``look`` the log read so far."""

    say: Callable[[str], None] = field(default=lambda _text: None)
    look: Callable[[LogTail], None] = field(default=lambda _tail: None)


def run_one(plan: Plan, *, stopper: Stopper | None = None, watch: Watch | None = None) -> Outcome:
    """Train one run to its end, a stop or a failure that no retry can help; never raises for a failed run."""
    supervisor = _Supervisor(plan, stopper or Stopper(), watch or Watch())
    try:
        return supervisor.run()
    except InputError as error:
        return Outcome(plan.run, "refused", 0, str(error))
    except (CaffebenchError, OSError) as error:
        return Outcome(plan.run, "crashed", supervisor.iteration, str(error), supervisor.log)


class _Supervisor:
    def __init__(self, plan: Plan, stopper: Stopper, watch: Watch) -> None:
        self.plan, self.stopper, self.watch = plan, stopper, watch
        self.paths = plan.paths
        self.deadline = None if plan.time_limit is None else time.monotonic() + plan.time_limit
        self.iteration = 0
        self.log: Path | None = None
        self.said: set[str] = set()
        """Events of the present session that people were told of."""

    def run(self) -> Outcome:
        self.paths.prepare()
        with self.paths.locked() as lock:
            self.paths.discard_unfinished()
            if self.plan.fresh:
                for folder in self.paths.set_aside():
                    self.watch.say(f"moved what was there of {self.plan.run} to {folder}")
            elif finished := self._finished():
                return finished
            self._adopt()
            return self._attempts(lock)

    def _adopt(self) -> None:
        """Make the snapshot that the run is to begin at its own, unless it has got further already."""
        given, own = self.plan.snapshot, self.paths.iterations()
        if given is None:
            return
        if own:
            self.watch.say(f"{self.plan.run}: it has snapshots of its own and goes on from there, not from {given}")
            return
        iteration = adopt_snapshot(Path(given), self.paths, self.plan.identity)
        self.watch.say(f"{self.plan.run}: begins at iteration {iteration}, from {given}")

    def _finished(self) -> Outcome | None:
        """What there is to say about a run that has ended before, so that it is not run again.

        Raises ``InputError`` where that run was of another file, or of another net or solver.
        """
        plan, before = self.plan, read_earlier(self.paths)
        if before is None:
            return None
        check_same_file(before.identity, plan.identity, f"the log {before.log}", plan.run)
        end = before.end
        if end.get("status") == "done" and end["iteration"] >= plan.max_iter:
            self._check_finished(before)
            edited = before.identity is not None and before.identity.file != plan.identity.file
            since = " (what its file has other than then makes no difference to its weights)" if edited else ""
            return _done(
                plan.run, end["iteration"], f"it was finished before{since}; --fresh starts it over", before.tail
            )
        if end.get("status") == "not_converged" and not plan.keep_going:
            reason = f"{end['reason']}; --keep-going trains it on, --fresh starts it over"
            return Outcome(plan.run, "not_converged", end["iteration"], reason, before.log)
        return None

    def _check_finished(self, before: Earlier) -> None:
        """Make sure that a finished run is what is asked for."""
        plan, iteration = self.plan, before.end["iteration"]
        changed = before.identity.changes(plan.identity) if before.identity else []
        if iteration > plan.max_iter:
            changed.append(f"max_iter: {iteration} -> {plan.max_iter}")
        if plan.identity.seed not in (None, before.seed):
            changed.append(f"seed: {before.seed} -> {plan.identity.seed}")
        if not changed:
            return
        record = read_record(self.paths.snapshot(iteration).record)
        if record is not None:  # which knows what it was
            texts = (record.solver, plan.solver)
            details = differences(*(parse_solver(text, plan.prototxt) for text in texts))
            changed = details[:4] + [one for one in changed if not one.startswith(("the ", "max_iter"))] or changed
        raise InputError(
            f"{plan.run} was finished at iteration {iteration}, and {plan.prototxt} is not what was trained then "
            f"({'; '.join(changed)}): --fresh starts over and moves that aside, --name NAME trains a run of its own"
        )

    def _attempts(self, lock: int) -> Outcome:
        """Start the child until it ends well, or badly for good, or too often."""
        failures: list[Failure] = []
        while True:
            outcome, failure = self._session(lock)
            if failure is None or self.stopper.asked:
                return outcome
            again = failures[-1:] == [failure]
            failures.append(failure)
            if not failure.retry or len(failures) > self.plan.retries or (failure.fatal and again):
                return outcome
            pause = min(FIRST_PAUSE * 2 ** (len(failures) - 1), LONGEST_PAUSE)
            if self.deadline is not None and time.monotonic() + pause > self.deadline:
                return outcome
            self.watch.say(
                f"{self.plan.run}: {failure.message}; retry {len(failures)} of {self.plan.retries} in {pause:.0f} s"
            )
            self.stopper.wait(pause)
            if self.stopper.asked:
                return Outcome(self.plan.run, "stopped", self.iteration, "asked to stop", self.log)

    def _session(self, lock: int) -> tuple[Outcome, Failure | None]:
        """One child process from start to end."""
        self.paths.discard_unfinished()
        resume_from = newest_whole(self.paths, self.watch.say)
        seed, changed = self._settle(resume_from)
        session, log = self.paths.open_log()
        self.log = self.paths.log(session)
        where = "from the start" if resume_from is None else f"from iteration {resume_from}"
        self.watch.say(f"{self.plan.run}: training {where}, log {self.log}")
        tail = LogTail(self.log)
        assignment = {
            "parent": os.getpid(),
            "plan": self.plan.to_json(),
            "session": session,
            "seed": seed,
            "resume_from": resume_from,
            "changed": changed,
            "deadline": self.deadline,
        }
        with log, self._start(assignment, lock, log) as child:
            try:
                self._follow(child, tail)
            finally:
                if child.poll() is None:
                    child.kill()
            return self._judge(child.wait(), tail, log)

    def _start(self, assignment: dict[str, Any], lock: int, log: Any) -> subprocess.Popen[bytes]:
        descriptor = os.memfd_create("assignment")
        try:
            os.write(descriptor, json.dumps(assignment).encode())
            os.lseek(descriptor, 0, os.SEEK_SET)
            return subprocess.Popen(
                module_command("caffebench.launcher.worker", str(descriptor)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock, descriptor),
                env=self._environment(),
                start_new_session=True,  # Ctrl-C is for the launcher alone, which then tells its children
            )
        finally:
            os.close(descriptor)

    def _settle(self, resume_from: int | None) -> tuple[int, list[str]]:
        """The seed, and what was changed in the prototxt since the snapshot."""
        record = read_record(self.paths.snapshot(resume_from).record) if resume_from is not None else None
        if record is None:
            return (new_seed() if self.plan.seed is None else self.plan.seed), []
        state, identity = self.paths.snapshot(record.iteration).state, read_identity(record.identity)
        check_same_file(identity, self.plan.identity, f"the snapshot {state}", self.plan.run)
        if record.iteration > self.plan.max_iter:
            raise InputError(
                f"{state} is of iteration {record.iteration}, and {self.plan.prototxt} ends at {self.plan.max_iter}: "
                "--fresh starts over and moves that aside, --name NAME trains a run of its own"
            )
        if self.plan.seed not in (None, record.seed):
            self.watch.say(f"{self.plan.run}: keeps the seed {record.seed} that it was started with")
        old, new = (parse_solver(text, self.plan.prototxt) for text in (record.solver, self.plan.solver))
        before, now = solver_type(old), solver_type(new)
        if before != now:
            raise InputError(
                f"{self.plan.run} was trained up to iteration {record.iteration} by {before}, and its solver is {now} "
                "now, which cannot take over its state: start over with --fresh, or train on from its weights, as a "
                f"run of its own, with --name NAME --weights {self.paths.snapshot(record.iteration).model}"
            )
        changed = differences(old, new)
        if identity is not None:
            changed += [one for one in identity.changes(self.plan.identity) if not one.startswith("the ")]
        if changed:
            more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
            self.watch.say(
                f"{self.plan.run}: {self.plan.prototxt} was changed since iteration {record.iteration}: "
                f"{'; '.join(changed[:4])}{more}; training goes on with the new values"
            )
        return record.seed, changed

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GLOG_")}
        if self.plan.threads is not None:
            for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
                environment[name] = str(self.plan.threads)
        if self.plan.layers == "fast":
            # Threads that spin while they wait take the cores from other runs, and lose much more than they gain.
            environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        return environment

    def _follow(self, child: subprocess.Popen[bytes], tail: LogTail) -> None:
        """Wait for the child, passing on what it logs and what is asked of it."""
        told = False
        self.said.clear()
        ended = os.pidfd_open(child.pid)
        with select.epoll() as news:  # asleep between two looks, but for an end and a request to stop
            try:
                news.register(ended, select.EPOLLIN)
                news.register(self.stopper, select.EPOLLIN | select.EPOLLET)
                while child.poll() is None:
                    tail.read()
                    if self.stopper.impatient:
                        child.kill()
                    elif not told and self.stopper.asked:
                        told = True
                        child.send_signal(signal.SIGTERM)
                    self._report(tail)
                    news.poll(POLL)
            finally:
                os.close(ended)
        tail.finish()
        self._report(tail)

    def _report(self, tail: LogTail) -> None:
        """Pass on how far the child has got, and once what its own lines say to people."""
        self.iteration = tail.iteration or self.iteration
        self.watch.look(tail)
        for event, describe in (("weights", describe_weights), ("resume", _describe_resume)):
            if event in tail.events and event not in self.said:
                self.said.add(event)
                for sentence in describe(tail.events[event]):
                    self.watch.say(f"{self.plan.run}: {sentence}")

    def _judge(self, code: int, tail: LogTail, log: Any) -> tuple[Outcome, Failure | None]:
        """What the child's end means; a child that could not say so itself gets its end line here."""
        statuses = {number: status for status, number in EXIT_CODES.items()}
        end = tail.events.get("end")
        if end is not None and statuses.get(code) == end["status"]:
            self.iteration = end["iteration"]
            reason = end["reason"]
            if end["status"] == "done":
                return _done(self.plan.run, self.iteration, reason, tail), None
            if end["status"] != "crashed":
                return Outcome(self.plan.run, end["status"], self.iteration, reason, self.log), None
            reason = disk_is_full(self.paths) or reason
            failure = Failure(reason, self.iteration, retry=False, fatal=True)
            return Outcome(self.plan.run, "crashed", self.iteration, reason, self.log), failure
        if self.stopper.asked and code == -signal.SIGTERM:
            # It was too young to know what to do about the signal.
            reason = f"{StopRequest().reason}, nothing was trained"
            self._write_end("stopped", reason, tail, log)
            return Outcome(self.plan.run, "stopped", self.iteration, reason, self.log), None
        failure = explain(code, tail, self.paths)
        if self.stopper.impatient and code == -signal.SIGKILL:
            failure = Failure("killed on request, without a snapshot", self.iteration, retry=False)
        self._write_end("crashed", failure.message, tail, log)
        return Outcome(self.plan.run, "crashed", self.iteration, failure.message, self.log), failure

    def _write_end(self, status: Status, reason: str, tail: LogTail, log: Any) -> None:
        """Write the log's last line for a child that could not do so itself."""
        end_line = log_event("end", {"status": status, "iteration": self.iteration, "reason": reason})
        cut = tail.path.stat().st_size and not tail.path.read_bytes().endswith(b"\n")
        log.write((("\n" if cut else "") + glog_line(end_line)).encode())


def _done(run: str, iteration: int, reason: str, tail: LogTail) -> Outcome:
    """The outcome of a finished run, with the figures of its log's last test."""
    return Outcome(run, "done", iteration, reason, tail.path, tail.accuracy, tail.test_loss)


def _describe_resume(event: dict[str, Any]) -> list[str]:
    lost = event["not_restored"]
    return [f"not restored: {', '.join(lost)}"] if lost else []
