"""What is to be trained and how: decided once, by the launcher, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from caffebench.launcher.plan.labels import LabelUse
from caffebench.launcher.solver.identity import Identity
from caffebench.launcher.state.paths import RunPaths

__all__ = ["Batch", "Plan"]


@dataclass(frozen=True)
class Plan:
    """One run. Everything in it is plain data: it travels to the child as JSON."""

    run: str
    prototxt: str
    solver: str
    """The solver as Caffe gets it: a ``SolverParameter`` in text format, data root and seed filled in."""
    max_iter: int
    identity: Identity
    """What the run is of."""
    seed: int | None = None
    """None: the seed of the run that is resumed, else a new one."""
    header: dict[str, Any] = field(default_factory=dict)
    logs: str = "logs"
    snapshots: str = "snapshots"
    init: str = "none"
    weights: tuple[str, ...] = ()
    snapshot: str | None = None
    """A ``.solverstate`` from elsewhere that the run begins at."""
    gpus: tuple[int, ...] = ()
    """The GPUs of this run; none means the CPU."""
    layers: Literal["caffe", "fast"] | None = None
    """Whose layers compute: Caffe's own, or on the CPU those of `engine.fast`. None: ``choose_layers`` finds them."""
    notes: tuple[str, ...] = ()
    """Where the run differs from what its file asks for, a sentence each; its log says so too."""
    label_uses: tuple[LabelUse, ...] = ()
    """Labels whose number of outputs only the built net will tell."""
    threads: int | None = None
    """BLAS threads; None leaves the choice to the BLAS."""
    resume: Literal["auto", "exact", "order", "caffe"] = "auto"
    fresh: bool = False
    keep_snapshots: int | None = None
    time_limit: float | None = None
    """Seconds that the run may take, retries included."""
    retries: int = 0
    keep_going: bool = False
    python_path: tuple[str, ...] = ()
    """Folders that Python layers are taken from, beside Python's own."""

    @property
    def paths(self) -> RunPaths:
        """Where this run's files are."""
        return RunPaths(self.run, Path(self.logs), Path(self.snapshots))

    @property
    def loader_workers(self) -> int:
        """Processes that load the training data; 0 leaves that to Caffe's own layer."""
        return int((self.header.get("loader") or {}).get("workers", 0))


@dataclass(frozen=True)
class Batch:
    """What one command trains: its plans, and what they share."""

    plans: tuple[Plan, ...]
    jobs: int
    """How many of them run at a time."""
    gpus: tuple[int, ...]
    """The GPUs of all; none means the CPU."""
    notes: tuple[str, ...]
    """What the user is to know before anything runs, a sentence each."""
