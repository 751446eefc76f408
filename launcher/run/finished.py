"""Is there anything left to train of a run? What its last log and its last snapshot say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caffebench.common.errors import InputError
from caffebench.common.events import EndEvent, RunEvent
from caffebench.launcher.plan.outcome import Outcome
from caffebench.launcher.plan.plan import Plan
from caffebench.launcher.show.logtail import LogTail
from caffebench.launcher.solver.identity import Identity, check_same_file, read_identity
from caffebench.launcher.solver.solverfile import changed_settings, names_nets, parse_solver
from caffebench.launcher.state.paths import BrokenSnapshotError, RunPaths
from caffebench.launcher.state.record import SnapshotMetadata, read_record
from caffebench.launcher.state.snapshots import check

__all__ = ["finished", "finished_before"]


@dataclass(frozen=True)
class Earlier:
    """What the log of a run's last session says."""

    log: Path
    tail: LogTail
    identity: Identity | None
    """None where it has none, as logs of other programs and of before."""
    seed: int | None
    end: EndEvent | None
    """Its end line; None where it was killed."""


def _read_earlier(paths: RunPaths) -> Earlier | None:
    """What there is of a run's last session; None where it has none."""
    sessions = paths.sessions()
    if not sessions:
        return None
    tail = LogTail.of_file(paths.log(sessions[-1]))
    run = tail.event(RunEvent)
    identity, seed = (None, None) if run is None else (read_identity(run.identity), run.seed)
    return Earlier(tail.path, tail, identity, seed, tail.event(EndEvent))


def finished(run: str, iteration: int, reason: str, tail: LogTail) -> Outcome:
    """The outcome of a finished run, with the figures of its log's last test."""
    return Outcome(run, "done", iteration, reason, tail.path, tail.accuracy, tail.test_loss)


def finished_before(plan: Plan) -> Outcome | None:
    """What there is to say about a run that has ended before, so that it is not run again; else None.

    Raises ``InputError`` where that run was of another file, or of another net or solver.
    """
    before = _read_earlier(plan.paths)
    if before is None:
        return None
    check_same_file(before.identity, plan.identity, f"the log {before.log}", plan.run)
    end = before.end
    if end is None:
        return None
    longer = before.identity is not None and before.identity.other_rates(plan.identity)
    if end.status == "done" and (end.iteration >= plan.max_iter or longer):
        _check_finished(plan, before, end.iteration)
        if _is_damaged(plan, end.iteration):
            return None  # trained again from the snapshot before, it comes to the same weights
        edited = before.identity is not None and before.identity.file != plan.identity.file
        since = " (what its file has other than then makes no difference to its weights)" if edited else ""
        reason = f"it was finished before{since}; --fresh starts it over"
        return finished(plan.run, end.iteration, reason, before.tail)
    if end.status == "not_converged" and not plan.keep_going:
        reason = f"{end.reason}; --keep-going trains it on, --fresh starts it over"
        return Outcome(plan.run, "not_converged", end.iteration, reason, before.log)
    return None


def _is_damaged(plan: Plan, iteration: int) -> bool:
    """Whether the last snapshot is there and not whole. Its files may have been removed since, for want of room."""
    snapshot = plan.paths.snapshot(iteration)
    if not snapshot.exist():
        return False
    try:
        check(snapshot, iteration)
    except (BrokenSnapshotError, OSError):
        return True
    return False


def _check_finished(plan: Plan, before: Earlier, iteration: int) -> None:
    """Make sure that a run which was finished at ``iteration`` is what is asked for."""
    changed = before.identity.changes(plan.identity) if before.identity else []
    if iteration > plan.max_iter and not any(one.startswith("max_iter") for one in changed):
        changed.append(f"max_iter: {iteration} -> {plan.max_iter}")
    if plan.identity.seed not in (None, before.seed):
        changed.append(f"seed: {before.seed} -> {plan.identity.seed}")
    if not changed:
        return
    record = _record(plan, iteration)
    if record is not None:  # which knows what it was
        then, now = (parse_solver(text, plan.prototxt) for text in (record.solver, plan.solver))
        details = changed_settings(then, now)
        known = [one for one in changed if not one.startswith(("the ", "max_iter"))]
        if names_nets(then) and changed == ["the net"] and not details:
            return  # an earlier version kept no net of an old form, only the name of its file
        changed = details[:4] + known or changed
    raise InputError(
        f"{plan.run} was finished at iteration {iteration} with other settings ({'; '.join(changed)}): "
        "--fresh starts over and moves that aside, --name NAME trains a run of its own"
    )


def _record(plan: Plan, iteration: int) -> SnapshotMetadata | None:
    try:
        return read_record(plan.paths.snapshot(iteration).record)
    except (BrokenSnapshotError, OSError):
        return None
