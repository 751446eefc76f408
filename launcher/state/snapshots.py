"""Snapshots: which are whole, which to resume from, and how one becomes final.

Caffe writes a snapshot in place, so that a kill in the middle leaves a file that looks like one. Here Caffe
writes into ``.partial``; the files are checked, made durable and only then renamed, the solver state last.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from caffebench.common.errors import InputError
from caffebench.common.messages import Announce
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.state.paths import BrokenSnapshotError, RunPaths, SnapshotPaths
from caffebench.launcher.state.record import SnapshotMetadata, checksum, read_record, write_record
from caffebench.launcher.state.weights import file_content, parse_message, parse_weights

__all__ = ["check", "finalize", "newest_whole", "restorable_state"]


def _check_state(path: Path, content: bytes, iteration: int) -> str:
    """Check a ``.solverstate``: the ``.caffemodel`` path that it names. Raises ``BrokenSnapshotError``."""
    state = parse_message(content, caffe_pb2().SolverState())
    # Caffe writes current_step last: where it is missing, so is an unknown number of blobs.
    if state is None or not (state.HasField("iter") and state.HasField("current_step")):
        try:
            parse_weights(path, content)
        except BrokenSnapshotError:
            raise BrokenSnapshotError(f"{path} is cut off, or was not written by Caffe") from None
        raise BrokenSnapshotError(f"{path} holds weights (a .caffemodel), not a solver state")
    if state.iter != iteration:
        raise BrokenSnapshotError(f"{path} is the state of iteration {state.iter}, not of {iteration}")
    return str(state.learned_net)


def check(snapshot: SnapshotPaths, iteration: int) -> SnapshotMetadata | None:
    """Make sure that a snapshot is whole: its record, None for one that has none.

    Raises ``BrokenSnapshotError`` or ``OSError``.
    """
    record = read_record(snapshot.record)
    if record is not None and record.iteration != iteration:
        raise BrokenSnapshotError(
            f"{snapshot.record} is the record of iteration {record.iteration}, not of {iteration}"
        )
    if not snapshot.model.is_file():
        raise BrokenSnapshotError(f"{snapshot.state} has no {snapshot.model.name} beside it")
    state, model = file_content(snapshot.state), file_content(snapshot.model)
    if record is not None:
        for path, content, size, expected in (
            (snapshot.state, state, record.state_bytes, record.state_sha256),
            (snapshot.model, model, record.model_bytes, record.model_sha256),
        ):
            if len(content) != size:
                raise BrokenSnapshotError(
                    f"{path} has {len(content)} bytes where {size} were written: cut off or replaced"
                )
            if checksum(content) != expected:
                raise BrokenSnapshotError(f"{path} is damaged: its SHA-256 is not that of what was written")
    _check_state(snapshot.state, state, iteration)
    parse_weights(snapshot.model, model)
    return record


def newest_whole(paths: RunPaths, announce: Announce) -> int | None:
    """The iteration of the newest whole snapshot, None where there is no snapshot at all.

    ``announce`` hears about every one that was passed over, and about one that is without a record. Raises
    ``InputError`` where there are snapshots and none is whole: to begin anew would overwrite them, and is for the user
    to decide.
    """
    iterations = paths.iterations()
    for place, iteration in enumerate(iterations):
        snapshot = paths.snapshot(iteration)
        try:
            record = check(snapshot, iteration)
        except (BrokenSnapshotError, OSError) as error:
            problem = str(error) if isinstance(error, BrokenSnapshotError) else f"{error.filename}: {error.strerror}"
            if place + 1 == len(iterations):
                raise InputError(
                    f"{problem}; no snapshot of {paths.run} in {paths.snapshots} is whole: put one back from a copy, "
                    "or start over with --fresh, which moves these aside"
                ) from None
            announce(f"{problem}; taking the one before")
        else:
            if record is None:
                announce(
                    f"{snapshot.state} has no {snapshot.record.name} beside it and is taken for a snapshot of plain "
                    "Caffe: there are no checksums, and its seed and its place in the data are not known"
                )
            return iteration
    return None


def finalize(paths: RunPaths, record: SnapshotMetadata, *, keep: int | None) -> SnapshotMetadata:
    """Give the snapshot that Caffe has just written into ``.partial`` its final name, and prune old ones.

    Raises ``BrokenSnapshotError`` or ``OSError`` (a full disk); earlier snapshots are intact then.
    """
    new, final = paths.unfinished(record.iteration), paths.snapshot(record.iteration)
    # In a protobuf the last value of a field wins: this points the state at the weights' final name
    # without reading and writing all of it again.
    name = str(final.model).encode()
    with new.state.open("ab") as file:
        file.write(b"\x12" + _varint(len(name)) + name)
    state, model = file_content(new.state), file_content(new.model)
    _check_state(new.state, state, record.iteration)
    parse_weights(new.model, model)
    record = replace(
        record,
        state_bytes=len(state),
        model_bytes=len(model),
        state_sha256=checksum(state),
        model_sha256=checksum(model),
    )
    for path in (new.model, new.state):
        _sync(path)
    final.state.unlink(missing_ok=True)
    write_record(final.record, record)
    new.model.replace(final.model)
    new.state.replace(final.state)
    _sync(paths.snapshots)  # the names too
    if keep is not None:
        # Only older ones: a broken newer one that was passed over must not count in place of a whole one.
        older = [iteration for iteration in paths.iterations() if iteration < record.iteration]
        for iteration in older[max(keep - 1, 0) :]:
            paths.snapshot(iteration).remove()
    return record


def _sync(path: Path) -> None:
    """Have the system write a file, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def restorable_state(paths: RunPaths, iteration: int) -> Path:
    """A ``.solverstate`` that Caffe can restore from where it is: a copy, if its files were moved since."""
    snapshot = paths.snapshot(iteration)
    if Path(_check_state(snapshot.state, file_content(snapshot.state), iteration)) == snapshot.model:
        return snapshot.state
    copy = paths.partial / f"{snapshot.state.name}.{os.getpid()}"  # each rank of several makes its own
    shutil.copyfile(snapshot.state, copy)
    name = str(snapshot.model).encode()
    with copy.open("ab") as file:
        file.write(b"\x12" + _varint(len(name)) + name)
    return copy
