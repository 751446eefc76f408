"""Snapshots: which are whole, which to resume from, and how one becomes final.

Caffe writes a snapshot in place, so that a kill in the middle leaves a file that looks like one. Here Caffe
writes into ``.partial``; the files are checked, made durable and only then renamed, the solver state last.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from caffebench.common.errors import CaffebenchError
from caffebench.common.files import write_whole
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.paths import RunPaths, SnapshotPaths

__all__ = [
    "BrokenSnapshotError",
    "Record",
    "Weights",
    "newest_whole",
    "publish",
    "read_record",
    "read_weights",
    "restorable",
]


class BrokenSnapshotError(CaffebenchError):
    """A snapshot file is not what its name says, or not all of it."""


@dataclass(frozen=True)
class Record:
    """What Caffe's own two files do not keep of a run's state, and what tells whether they are whole."""

    iteration: int
    seed: int
    train_batches: int
    """Batches that the train net's data layers have given out."""
    test_batches: tuple[int, ...]
    """The same for each test net, not counting a test at this very iteration: a resumed run repeats that one."""
    batch_size: int
    """Records in one such batch of the train net; phases change it."""
    state_bytes: int
    model_bytes: int
    solver: str
    """The solver prototxt that was trained."""


@dataclass(frozen=True)
class Weights:
    """The layers of a ``.caffemodel`` that have blobs: name -> shapes of the blobs."""

    shapes: dict[str, list[tuple[int, ...]]]


def read_weights(path: Path) -> Weights:
    """Read the layers and shapes of a ``.caffemodel``.

    Raises ``BrokenSnapshotError`` for an empty, cut-off or foreign file, ``OSError`` where it cannot be read.
    """
    try:
        net = _parse(path, caffe_pb2().NetParameter())
        layers = list(net.layer) or list(net.layers)
    except BrokenSnapshotError:
        layers = []
    if not layers:
        if _is_state(path):
            raise BrokenSnapshotError(f"{path} is a solver state, not weights: give the .caffemodel beside it")
        raise BrokenSnapshotError(f"{path} holds no whole Caffe weights: it is cut off, or something else")
    shapes = {layer.name: [_shape(blob) for blob in layer.blobs] for layer in layers if layer.blobs}
    for layer in layers:
        for blob, shape in zip(layer.blobs, shapes.get(layer.name, []), strict=False):
            size = 1
            for extent in shape:
                size *= extent
            if max(len(blob.data), len(blob.double_data)) != size:
                raise BrokenSnapshotError(f"{path} is damaged: the blobs of layer {layer.name} are not whole")
    return Weights(shapes)


def _shape(blob: Any) -> tuple[int, ...]:
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    if not (blob.HasField("num") or blob.HasField("height")):
        return ()  # one number: Caffe writes no shape for a blob without axes
    return (blob.num, blob.channels, blob.height, blob.width)


def _is_state(path: Path) -> bool:
    try:
        state = _parse(path, caffe_pb2().SolverState())
    except BrokenSnapshotError:
        return False
    return bool(state.HasField("iter") and state.history)


def _parse(path: Path, message: Any) -> Any:
    from google.protobuf.message import DecodeError

    data = path.read_bytes()
    if not data:
        raise BrokenSnapshotError(f"{path} is empty")
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise BrokenSnapshotError(f"{path} is cut off, or was not written by Caffe") from None
    return message


def _check_state(path: Path, iteration: int) -> str:
    """Check a ``.solverstate``: the ``.caffemodel`` path that it names. Raises ``BrokenSnapshotError``."""
    if path.stat().st_size:
        try:
            state = _parse(path, caffe_pb2().SolverState())
            # Caffe writes current_step last: where it is missing, so is an unknown number of blobs.
            whole = state.HasField("iter") and state.HasField("current_step")
        except BrokenSnapshotError:
            whole = False
        if not whole:
            try:
                read_weights(path)
            except BrokenSnapshotError:
                raise BrokenSnapshotError(f"{path} is cut off, or was not written by Caffe") from None
            raise BrokenSnapshotError(f"{path} holds weights (a .caffemodel), not a solver state")
    else:
        raise BrokenSnapshotError(f"{path} is empty")
    if state.iter != iteration:
        raise BrokenSnapshotError(f"{path} is the state of iteration {state.iter}, not of {iteration}")
    return str(state.learned_net)


def read_record(path: Path) -> Record | None:
    """Our record of a snapshot; None where there is none that can be read (one of ``caffe train``, say)."""
    try:
        data = json.loads(path.read_text())
        return Record(**{**data, "test_batches": tuple(data["test_batches"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def check(snapshot: SnapshotPaths, iteration: int) -> None:
    """Make sure that a snapshot is whole. Raises ``BrokenSnapshotError`` or ``OSError``."""
    record = read_record(snapshot.record)
    if not snapshot.model.is_file():
        raise BrokenSnapshotError(f"{snapshot.state} has no {snapshot.model.name} beside it")
    if record is not None:
        for path, size in ((snapshot.state, record.state_bytes), (snapshot.model, record.model_bytes)):
            if path.stat().st_size != size:
                raise BrokenSnapshotError(
                    f"{path} has {path.stat().st_size} bytes where {size} were written: cut off or replaced"
                )
    _check_state(snapshot.state, iteration)
    read_weights(snapshot.model)


def newest_whole(paths: RunPaths, say: Callable[[str], None]) -> int | None:
    """The iteration of the newest whole snapshot; ``say`` hears about every one that was passed over."""
    for iteration in paths.iterations():
        try:
            check(paths.snapshot(iteration), iteration)
        except BrokenSnapshotError as error:
            say(f"{error}; taking the one before")
        else:
            return iteration
    return None


def publish(paths: RunPaths, record: Record, *, keep: int | None) -> Record:
    """Give the snapshot that Caffe has just written into ``.partial`` its final name, and prune old ones.

    Raises ``BrokenSnapshotError`` or ``OSError`` (a full disk); earlier snapshots are intact then.
    """
    new, final = paths.unfinished(record.iteration), paths.snapshot(record.iteration)
    # In a protobuf the last value of a field wins: this points the state at the weights' final name
    # without reading and writing all of it again.
    name = str(final.model).encode()
    with new.state.open("ab") as file:
        file.write(b"\x12" + _varint(len(name)) + name)
    _check_state(new.state, record.iteration)
    read_weights(new.model)
    for path in (new.model, new.state):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sizes = {"state_bytes": new.state.stat().st_size, "model_bytes": new.model.stat().st_size}
    record = Record(**{**vars(record), **sizes})
    final.state.unlink(missing_ok=True)
    write_whole(final.record, json.dumps(asdict(record)))
    new.model.replace(final.model)
    new.state.replace(final.state)
    if keep is not None:
        # Only older ones: a broken newer one that was passed over must not count in place of a whole one.
        older = [iteration for iteration in paths.iterations() if iteration < record.iteration]
        for iteration in older[max(keep - 1, 0) :]:
            paths.snapshot(iteration).remove()
    return record


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def restorable(paths: RunPaths, iteration: int) -> Path:
    """A ``.solverstate`` that Caffe can restore from where it is: a copy, if its files were moved since."""
    snapshot = paths.snapshot(iteration)
    if Path(_check_state(snapshot.state, iteration)) == snapshot.model:
        return snapshot.state
    copy = paths.partial / f"{snapshot.state.name}.{os.getpid()}"  # each rank of several makes its own
    shutil.copyfile(snapshot.state, copy)
    name = str(snapshot.model).encode()
    with copy.open("ab") as file:
        file.write(b"\x12" + _varint(len(name)) + name)
    return copy
