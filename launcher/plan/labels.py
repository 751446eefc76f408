"""Labels that a net has no output for: Caffe trains on them without a word, or reads beyond its memory."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffebench.common.caffe_facts import LABEL_LAYERS
from caffebench.common.errors import InputError
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.data.records import read_records
from caffebench.launcher.solver.nets import BuiltNet, built_nets, channels

if TYPE_CHECKING:
    from caffebench.launcher.solver.solverfile import SolverFile

__all__ = ["LabelUse", "check_built_labels", "check_labels", "labels_of_lmdb"]

BUDGET = 5.0
"""Seconds for the labels of one LMDB, a million records or so; of a larger one the first and the last are looked at."""
LAST = 10_000


@dataclass(frozen=True)
class LabelUse:
    """A layer that takes labels for the numbers of another blob's channels, and the labels that it will get."""

    net: int | None
    """Number of the test net; None: the train net."""
    layer: str
    scores: str
    """The blob whose channels are the classes."""
    axis: int
    low: int
    high: int
    """The least and the greatest label in the data, but for the one that the layer ignores."""
    source: str

    def check(self, classes: int) -> None:
        """Raise ``InputError`` where the labels go beyond so many classes."""
        if self.low >= 0 and self.high < classes:
            return
        wrong = f"up to {self.high}" if self.high >= classes else f"below 0 ({self.low})"
        where = "the train net" if self.net is None else f"test net {self.net}"
        raise InputError(
            f"{self.source} has labels {wrong}, and {self.scores}, which layer {self.layer} of {where} compares them "
            f"with, has {classes} outputs (labels 0 to {classes - 1}): set its num_output to the number of classes, "
            "or make the data with labels from 0 on"
        )


def check_labels(file: SolverFile) -> tuple[LabelUse, ...]:
    """Compare labels and outputs of all nets: the uses whose number of outputs only the built net will tell.

    Raises ``InputError`` for the first label beyond the outputs.
    """
    left = []
    for net in built_nets(file.solver):
        for use, classes in _uses(net):
            if classes is None:
                left.append(use)
                continue
            try:
                use.check(classes)
            except InputError as error:
                raise InputError(f"{file.path}: {error}") from None
    return tuple(left)


def check_built_labels(solver: Any, uses: tuple[LabelUse, ...]) -> None:
    """The same for the uses that were left, in the training process, with the nets as Caffe has built them."""
    for use in uses:
        blobs = (solver.net if use.net is None else solver.test_nets[use.net]).blobs
        if use.scores in blobs:
            use.check(blobs[use.scores].shape[use.axis])


def _uses(net: BuiltNet) -> Iterator[tuple[LabelUse, int | None]]:
    """Every use of labels in a net, with the number of classes where the prototxt tells it."""
    labels: dict[str, tuple[str, frozenset[int]]] = {}
    for layer, known in zip(net.layers, channels(net.layers), strict=True):
        found = _labels(layer)
        for top in layer.top:
            labels.pop(top, None)
        if found and len(layer.top) > 1:
            labels[layer.top[1]] = found
        asked = _comparison(layer)
        if asked is None or layer.bottom[1] not in labels:
            continue
        axis, ignored = asked
        source, values = labels[layer.bottom[1]]
        counted = values - {ignored}
        if counted:
            use = LabelUse(net.number, layer.name, layer.bottom[0], axis, min(counted), max(counted), source)
            yield use, known.get(layer.bottom[0]) if axis == 1 else None


def _comparison(layer: Any) -> tuple[int, int | None] | None:
    """The axis of the classes and the label that is ignored, for a layer that compares scores with labels."""
    if len(layer.bottom) < 2 or layer.type not in LABEL_LAYERS:
        return None
    if layer.type == "Accuracy":
        parameter = layer.accuracy_param
        return parameter.axis, parameter.ignore_label if parameter.HasField("ignore_label") else None
    axis = {"SoftmaxWithLoss": layer.softmax_param.axis, "InfogainLoss": layer.infogain_loss_param.axis}
    ignored = layer.loss_param.ignore_label if layer.loss_param.HasField("ignore_label") else None
    return axis.get(layer.type, 1), ignored


def _labels(layer: Any) -> tuple[str, frozenset[int]] | None:
    """What a data layer's labels come from, in words, and the labels; None where that cannot be told cheaply."""
    if layer.type == "Data" and layer.data_param.backend == caffe_pb2().DataParameter.LMDB:
        source = Path(layer.data_param.source)
        if not source.exists():
            return None
        return f"the LMDB {source}", labels_of_lmdb(source, _stamp(source))
    if layer.type == "ImageData" and Path(layer.image_data_param.source).is_file():
        source = Path(layer.image_data_param.source)
        return f"the list {source}", labels_of_list(source, _stamp(source))
    return None


def _stamp(source: Path) -> tuple[int, int]:
    file = source / "data.mdb" if source.is_dir() else source
    return file.stat().st_size, file.stat().st_mtime_ns


@cache
def labels_of_list(source: Path, _stamp: tuple[int, int]) -> frozenset[int]:
    """All labels in a list of images, a line being ``path label``."""
    found = set()
    with source.open(errors="replace") as lines:
        for line in lines:
            label = re.search(r" ([+-]?\d+)[^ ]*$", line.rstrip())
            if label is not None:
                found.add(int(label[1]))
    return frozenset(found)


@cache
def labels_of_lmdb(source: Path, _stamp: tuple[int, int] = (0, 0)) -> frozenset[int]:
    """All labels in an LMDB of Datum records, of a very large one those of its first and last records.

    Only the pages that hold them are read, not the images.
    """
    found: set[int] = set()
    end = time.monotonic() + BUDGET
    with read_records(source, readahead=False, buffers=True) as (_, cursor):
        for number, record in enumerate(cursor.iternext(keys=False)):
            found.add(_label(record))
            if number % 1000 == 0 and time.monotonic() > end:
                break
        else:
            return frozenset(found)
        if cursor.last():
            for number, record in enumerate(cursor.iterprev(keys=False)):
                found.add(_label(record))
                if number == LAST or time.monotonic() > end + BUDGET:
                    break
    return frozenset(found)


VARINT, BYTES = 0, 2
LABEL, FLOAT_DATA = 5, 6


def _label(record: memoryview) -> int:
    """The label of a serialised Datum: its fields are walked over, for its image may be large. 0 where it has none."""
    at, size = 0, len(record)
    while at < size:
        key, at = _varint(record, at)
        field, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(record, at)
            if field == LABEL:
                return value - (1 << 64) if value >> 63 else value
        elif kind == BYTES and field != FLOAT_DATA:
            length, at = _varint(record, at)
            at += length
        else:  # numbers, of which there may be many, and which are written after the label
            return int(caffe_pb2().Datum.FromString(bytes(record)).label)
    return 0


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
