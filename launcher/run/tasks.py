"""What a child process is to do: handed over once, by ``common.child_process.task_file``."""

from __future__ import annotations

from dataclasses import dataclass

from caffebench.launcher.plan.plan import Plan
from caffebench.launcher.solver.schedule import Phase

__all__ = ["RankTask", "WorkerTask"]


@dataclass(frozen=True)
class WorkerTask:
    """One session of a run, for the training process."""

    parent: int
    """The launcher's process."""
    plan: Plan
    session: int
    """Its number, that of its log."""
    seed: int
    resume_from: int | None
    """The iteration of the snapshot that it resumes from; None: from the start."""
    changed: tuple[str, ...]
    """What was changed in the prototxt since that snapshot, as ``field: old -> new``."""
    deadline: float | None
    """``time.monotonic()`` at which the run must have stopped."""


@dataclass(frozen=True)
class RankTask:
    """A phase of a run on several GPUs, for the process of one GPU from the second on."""

    parent: int
    """The training process, rank 0."""
    plan: Plan
    phase: Phase
    seed: int
    resume_from: int | None
    rank: int
    uid: str
    """NCCL's id of the group, in base 64."""
