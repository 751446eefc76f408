"""A snapshot from elsewhere as the beginning of a run: another run's, or one that plain Caffe has written."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from caffebench.common.errors import InputError
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.solver.identity import Identity
from caffebench.launcher.state.paths import BrokenSnapshotError, RunPaths, SnapshotPaths
from caffebench.launcher.state.record import read_record, write_record
from caffebench.launcher.state.snapshots import check
from caffebench.launcher.state.weights import WAY_OUT

__all__ = ["adopt_snapshot", "check_adoptable", "give_back"]


def check_adoptable(state: Path) -> int:
    """Make sure that a ``.solverstate`` and its weights can be started from: its iteration. Raises ``InputError``."""
    from google.protobuf.message import DecodeError

    if not state.is_file():
        raise InputError(f"--snapshot {state}: there is no such file; name a .solverstate")
    try:
        content = caffe_pb2().SolverState.FromString(state.read_bytes())
    except DecodeError:
        content = caffe_pb2().SolverState()
    if not content.HasField("iter"):
        raise InputError(
            f"--snapshot {state} is no solver state of Caffe's, or cut off: name a .solverstate (weights alone go to "
            "--weights, states in HDF5 cannot be taken)"
        )
    try:
        check(_given(state), content.iter)
    except BrokenSnapshotError as error:
        raise InputError(f"--snapshot: {error}") from None
    return int(content.iter)


def adopt_snapshot(state: Path, paths: RunPaths, identity: Identity) -> int:
    """Copy a snapshot, with its record if it has one, to where the run's own are: its iteration. Raises ``OSError``."""
    iteration = check_adoptable(state)
    source, target, partial = _given(state), paths.snapshot(iteration), paths.unfinished(iteration)
    record = read_record(source.record)
    for one, copy in ((source.model, partial.model), (source.state, partial.state)):
        shutil.copyfile(one, copy)
    if record is not None:
        write_record(target.record, replace(record, identity=identity))
    partial.model.replace(target.model)
    partial.state.replace(target.state)
    return iteration


def give_back(state: Path, paths: RunPaths, iteration: int, refusal: str) -> str:
    """Remove the only snapshot of a run that was refused, a copy of ``state``: the refusal, of the file itself then."""
    copy, given = paths.snapshot(iteration), _given(state)
    if paths.iterations() != [iteration]:
        return refusal
    copy.remove()
    refusal = refusal.replace(str(copy.model), str(given.model)).replace(str(copy.state), str(given.state))
    return refusal.replace(WAY_OUT, "name a snapshot of this one")


def _given(state: Path) -> SnapshotPaths:
    """The files of a snapshot: its weights lie beside the state, or where the state says."""
    model = state.with_suffix(".caffemodel")
    if not model.is_file():
        named = Path(caffe_pb2().SolverState.FromString(state.read_bytes()).learned_net)
        model = named if named.is_file() else model
    return SnapshotPaths(state, model, state.with_suffix(".json"))
