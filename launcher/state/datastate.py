"""Which data a run reads: whether they are the same after a resume, and how far it has got in them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.data.records import read_records
from caffebench.launcher.solver.nets import built_layers
from caffebench.launcher.state.record import DataState, by_layer

__all__ = ["batch_images", "data_states", "in_batches_of", "training_images", "what_changed"]


def data_states(solver: Any, test_nets: int) -> tuple[DataState, ...]:
    """The state of all data that the nets of a ``SolverParameter`` read, the train net's first."""
    nets = {"TRAIN": built_layers(solver)}
    for number in range(test_nets):
        nets[f"TEST#{number}" if number else "TEST"] = built_layers(solver, number)
    return tuple(
        DataState(net, layer.name, source, batch_size, *_fingerprint(layer, Path(source)))
        for net, layers in nets.items()
        for layer in layers
        for source, batch_size in _sources(layer)
    )


def training_images(solver: Any) -> int | None:
    """Images that the training net of a ``SolverParameter`` reads in an epoch; None where its data do not tell."""
    for layer in built_layers(solver):
        for source, _ in _sources(layer):
            return (_fingerprint(layer, Path(source))[0] or None) if layer.type in ("Data", "ImageData") else None
    return None


def batch_images(solver: Any) -> int:
    """Images that the training net of a ``SolverParameter`` reads at once; 0 where no data layer says it."""
    return next((count for layer in built_layers(solver) for _, count in _sources(layer)), 0)


def _sources(layer: Any) -> list[tuple[str, int]]:
    """The source and batch size of a layer that reads data."""
    parameters = (layer.data_param, layer.image_data_param, layer.hdf5_data_param, layer.window_data_param)
    return [(one.source, one.batch_size) for one in parameters if one.source]


def _fingerprint(layer: Any, source: Path) -> tuple[int, str]:
    """The number of records and the checksum of some of the content; 0 and nothing where neither is known."""
    if layer.type == "Data":
        return _of_lmdb(source) if layer.data_param.backend == caffe_pb2().DataParameter.LMDB else (0, "")
    try:  # the other layers' sources are lists of files
        content = source.read_bytes()
    except OSError:
        return 0, ""
    return len(content.splitlines()), hashlib.sha256(content).hexdigest()


def _of_lmdb(source: Path) -> tuple[int, str]:
    """The number of records, and a checksum of the size of the database, its first and its last record."""
    import lmdb

    try:
        with read_records(source) as (status, cursor):
            found = hashlib.sha256(repr([status["entries"], status["leaf_pages"], status["overflow_pages"]]).encode())
            for move in (cursor.first, cursor.last):
                if move():
                    found.update(bytes(cursor.key()) + bytes(cursor.value()))
            return int(status["entries"]), found.hexdigest()
    except lmdb.Error:
        return 0, ""


def what_changed(before: Sequence[DataState], now: Sequence[DataState], net: str) -> str:
    """How the data that ``net`` reads now differ from those of a snapshot, in words; empty where they are the same.

    Where the snapshot says nothing of a layer, or nothing is known of its data, they are taken to be the same.
    """
    old = by_layer(before)
    for key, one in by_layer(now).items():
        was = old.get(key)
        if one.net != net or was is None or not (one.fingerprint and was.fingerprint):
            continue
        if one.records != was.records:
            return f"{one.source} has {one.records:,} records, and had {was.records:,} at the snapshot"
        if one.fingerprint != was.fingerprint:
            return f"{one.source} has not the content that it had at the snapshot"
    return ""


def in_batches_of(batches: int, old: int, new: int) -> tuple[int, int]:
    """The ``batches`` of ``old`` records that were read, in batches of ``new``: whole ones, and records left over."""
    if not old or not new or old == new:
        return batches, 0
    return divmod(batches * old, new)
