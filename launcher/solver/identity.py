"""Which file the logs and snapshots of a run are of: a run is its net and solver, not its file's name."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffebench.common.errors import InputError

if TYPE_CHECKING:
    from caffebench.launcher.solver.solverfile import SolverFile

__all__ = ["Identity", "check_same_file", "identify", "read_identity"]

HARMLESS = (
    "average_loss",
    "debug_info",
    "device_id",
    "display",
    "max_iter",
    "snapshot",
    "snapshot_after_train",
    "snapshot_diff",
    "snapshot_format",
    "snapshot_prefix",
    "solver_mode",
    "test_compute_loss",
    "test_initialization",
    "test_interval",
    "test_iter",
)
"""Fields of a solver that do not change the weights which a number of iterations leads to; but see ``schedule``."""
OPTIONS = ("deterministic", "lr_schedule", "phases")
"""Header lines that do."""


@dataclass(frozen=True)
class Identity:
    """What a run is of. Fingerprints are of the file as it was written, wherever its data are."""

    path: str
    """The solver's file, absolute."""
    file: str
    """Fingerprint of the whole solver and its nets."""
    net: str
    """Of the nets alone."""
    solver: str
    """Of the solver's settings that change the weights."""
    options: dict[str, str]
    """Initialisation, weights to start from, and header lines that change the weights, as text."""
    seed: int | None = None
    """Where the command names one."""
    schedule: int | None = None
    """The ``max_iter`` that the learning rate of each iteration depends on; None where it does not."""

    def changes(self, other: Identity) -> list[str]:
        """What differs in a later one that would change the weights."""
        found = [f"the {what}" for what in ("net", "solver") if getattr(self, what) != getattr(other, what)]
        for key in sorted(self.options.keys() | other.options.keys()):
            old, new = self.options.get(key, "none"), other.options.get(key, "none")
            if old != new:
                found.append(f"{key}: {old} -> {new}")
        if self.other_rates(other):
            found.append(f"max_iter: {self.schedule} -> {other.schedule}")
        return found

    def other_rates(self, other: Identity) -> bool:
        """Whether a later one has other learning rates from the first iteration on, as it ends elsewhere."""
        return None not in (self.schedule, other.schedule) and self.schedule != other.schedule


def identify(
    file: SolverFile,
    *,
    init: str,
    weights: tuple[str, ...] = (),
    snapshot: Path | None = None,
    seed: int | None = None,
    max_iter: int | None = None,
) -> Identity:
    """The identity of a run of a solver's file as it is written: call it before anything in it is replaced.

    ``seed`` and ``max_iter`` are those that the command names.
    """
    solver = type(file.solver)()
    solver.CopyFrom(file.solver)
    whole = type(solver)()
    whole.CopyFrom(solver)
    nets = type(solver)()
    for name in ("net_param", "train_net_param", "train_state"):
        if solver.HasField(name):
            getattr(nets, name).CopyFrom(getattr(solver, name))
            solver.ClearField(name)
    for name in ("test_net_param", "test_state"):
        getattr(nets, name).extend(getattr(solver, name))
        solver.ClearField(name)
    for name in HARMLESS:
        solver.ClearField(name)
    options = {key: str(file.header[key]) for key in OPTIONS if file.header.get(key)}
    if (file.header.get("loader") or None) is not None:
        options["loader"] = "workers"  # their number makes no difference
    if init != "none":
        options["init"] = init
    if weights:
        options["weights"] = ", ".join(weights)
    if snapshot is not None:
        options["snapshot"] = str(snapshot)
    path = str(file.path.resolve())
    to_the_end = solver.lr_policy == "poly" or "lr_schedule" in options  # rates that fall until max_iter
    schedule = int(max_iter or file.solver.max_iter) if to_the_end else None
    return Identity(path, _digest(whole), _digest(nets), _digest(solver), options, seed, schedule)


def _digest(*messages: Any) -> str:
    digest = hashlib.sha256()
    for message in messages:
        digest.update(message.SerializeToString(deterministic=True))
    return digest.hexdigest()[:16]


def check_same_file(before: Identity | None, now: Identity, what: str, run: str) -> None:
    """Raise ``InputError`` where ``what`` there is of a run, made from another file, is to be taken for this one's."""
    if before is None or before.path == now.path or before.file == now.file:
        return
    raise InputError(
        f"{what} is of {_shown(before.path)}, and {_shown(now.path)} is another run: name it with --name NAME "
        f"(--name '{{folder}}_{{stem}}' makes it {Path(now.path).parent.name}_{Path(now.path).stem}), or choose other "
        f"folders with --logs and --snapshots; --fresh moves what is there of {run} aside"
    )


def _shown(path: str) -> str:
    """A path as short as it can be: seen from here, if it is below."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def read_identity(found: Any) -> Identity | None:
    """The identity in a log or a record; None where that is none."""
    try:
        return Identity(**found)
    except TypeError:
        return None
