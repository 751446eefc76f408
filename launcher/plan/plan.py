"""What is to be trained and how: decided once, by the launcher, before anything runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from caffebench.launcher.plan.labels import LabelUse
from caffebench.launcher.solver.identity import Identity
from caffebench.launcher.state.paths import RunPaths

__all__ = ["Outcome", "Plan", "Status"]

Status = Literal["done", "stopped", "crashed", "not_converged", "refused"]


@dataclass(frozen=True)
class Plan:
    """One run. Everything in it is plain data: it travels to the child, or to a cluster node, as JSON."""

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
    layers: Literal["caffe", "fast"] = "caffe"
    """Whose layers compute on the CPU: Caffe's own, or those of `engine.fast`."""
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

    def to_json(self) -> str:
        """The plan as one JSON object."""
        return json.dumps(asdict(self), default=str)  # YAML knows dates

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that ``to_json`` wrote."""
        data = json.loads(text)
        tuples = {name: tuple(data[name]) for name in ("gpus", "weights", "notes", "python_path")}
        uses = tuple(LabelUse(**use) for use in data["label_uses"])
        return cls(**{**data, **tuples, "label_uses": uses, "identity": Identity(**data["identity"])})


@dataclass(frozen=True)
class Outcome:
    """How a run ended. ``refused`` is an error in what was asked for, found when the run was to start."""

    run: str
    status: Status
    iteration: int
    reason: str
    log: Path | None = None
    accuracy: float | None = None
    """Of the test of the final weights, where the run is done."""
    test_loss: float | None = None

    @property
    def score(self) -> str:
        """What a finished run has come to, in words; empty where it was not tested."""
        if self.accuracy is not None:
            return f"accuracy {self.accuracy:.4f}"
        return "" if self.test_loss is None else f"test loss {self.test_loss:.4g}"

    @property
    def exit_code(self) -> int:
        """The exit code that this outcome alone stands for (INTERFACE: 0 done, 1 failed, 2 input, 3 stopped)."""
        return {"done": 0, "stopped": 3, "refused": 2}.get(self.status, 1)
