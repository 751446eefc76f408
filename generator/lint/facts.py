"""Facts about a file that several rules ask for: sizes of its data, batches, epochs, what its net is made of."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from caffebench.common.caffe_facts import IMAGENET_NAME, IMAGENET_TEST, IMAGENET_TRAIN, LABEL_LAYERS
from caffebench.engine.messages import caffe_messages
from caffebench.generator.lint.roles import is_deploy
from caffebench.generator.meaning import LAYER_TYPES, Graph, Layer, PhaseNet, Prototxt, Vertex, build_graph

__all__ = [
    "batch_size",
    "batches",
    "classes",
    "data_layers",
    "data_size",
    "database_kind",
    "epochs",
    "find",
    "first_datum",
    "graph",
    "heads",
    "images_seen",
    "is_encoded",
    "is_here",
    "known_layers",
    "largest_label",
    "learns",
    "nearest",
    "samples_per_iteration",
    "sources",
]

_DATA_PARAMS = ("data_param", "image_data_param", "hdf5_data_param", "window_data_param", "memory_data_param")
_LABELS_READ = 4000
_CHANNELS_KEPT = {
    "Pooling",
    "Softmax",
    "BatchNorm",
    "Scale",
    "Bias",
    "Dropout",
    "ReLU",
    "Sigmoid",
    "TanH",
    "Log",
    "Power",
}
_IMAGENET = {"TRAIN": IMAGENET_TRAIN, "TEST": IMAGENET_TEST}


@cache
def graph(net: PhaseNet) -> Graph:
    """The graph of a phase's net, made once."""
    return build_graph(net)


def data_layers(net: PhaseNet) -> Iterator[tuple[Layer, str]]:
    """The layers of a net that read data, each with the name of its data message."""
    for layer in net.layers:
        for name in _DATA_PARAMS:
            if layer.message.HasField(name):
                yield layer, name


def known_layers(file: Prototxt) -> Iterator[Layer]:
    """Each layer of a BVLC type in the nets that are judged, once."""
    layers = dict.fromkeys(layer for net in file.phases for layer in net.layers)
    return (layer for layer in layers if layer.type in LAYER_TYPES)


def batch_size(net: PhaseNet | None) -> int | None:
    """The batch of the first data layer of a net, None if there is none."""
    for layer, name in data_layers(net) if net is not None else ():
        return int(getattr(layer.message, name).batch_size)
    return None


def sources(file: Prototxt) -> Iterator[tuple[Layer, str, str, bool]]:
    """What the data layers read: (layer, dotted field, path, whether the path is a database's)."""
    for layer in file.layers:
        for name in _DATA_PARAMS:
            settings = getattr(layer.message, name)
            if getattr(settings, "source", ""):
                yield layer, f"{name}.source", settings.source, name == "data_param"
        if layer.message.transform_param.mean_file:
            yield layer, "transform_param.mean_file", layer.message.transform_param.mean_file, False


def find(file: Prototxt, name: str) -> Path | None:
    """Where a file or folder that a prototxt names is: from the folder that it is run from, as in Caffe.

    A bare net does not tell that folder: those above it are tried.
    """
    homes = [Path(), *([file.home] if file.home is not None else []), *file.path.parents, *file.path.absolute().parents]
    return next((home / name for home in homes if (home / name).exists()), None)


def is_here(file: Prototxt) -> bool:
    """Whether the file is set up to run on this machine: some of the data that it names is there, or it names none."""
    names = [name for _, _, name, _ in sources(file)]
    return not names or any(find(file, name) is not None for name in names)


def database_kind(folder: Path) -> str | None:
    """``LMDB`` or ``LEVELDB``, None for what is neither."""
    if (folder / "data.mdb").is_file():
        return "LMDB"
    return "LEVELDB" if (folder / "CURRENT").is_file() else None


def learns(file: Prototxt) -> PhaseNet | None:
    """The net that is trained: in TRAIN and with a loss or data of its own, else None."""
    net = file.phase("TRAIN")
    return net if net is not None and net.layers and not is_deploy(net) else None


def data_size(file: Prototxt, net: PhaseNet | None) -> int | None:
    """Number of images of a net's data set, None where nothing tells.

    It is what the file's header says, else what its LMDB holds if that is on this machine, else ImageNet's
    (ILSVRC 2012) for a net of 1,000 classes on data of that name.
    """
    if net is None:
        return None
    said = file.header.get("train_size" if net.phase == "TRAIN" else "test_size")
    if isinstance(said, int) and said > 0:
        return said
    imagenet = False
    for layer, name in data_layers(net):
        source = getattr(layer.message, name).source if name != "memory_data_param" else ""
        place = find(file, source) if source and name == "data_param" else None
        count = _entries(place) if place is not None else None
        if count is not None:
            return count
        imagenet |= bool(IMAGENET_NAME.search(source))
    return _IMAGENET[net.phase] if imagenet and classes(net) == 1000 else None


@cache
def _entries(folder: Path) -> int | None:
    """Number of records of an LMDB, None if there is none that can be read."""
    with _records(folder) as transaction:
        return None if transaction is None else int(transaction.stat()["entries"])


@contextmanager
def _records(folder: Path) -> Iterator[Any]:
    """A transaction on an LMDB, None if there is none that can be read."""
    import lmdb

    try:
        environment = lmdb.open(str(folder), readonly=True, lock=False) if database_kind(folder) == "LMDB" else None
    except lmdb.Error:
        environment = None
    if environment is None:
        yield None
        return
    with environment, environment.begin() as transaction:
        yield transaction


@cache
def _first_record(folder: Path) -> Any | None:
    """The first ``Datum`` of an LMDB, None where none can be read."""
    from google.protobuf.message import DecodeError

    with _records(folder) as transaction:
        cursor = transaction.cursor() if transaction is not None else None
        if cursor is None or not cursor.first():
            return None
        try:
            return caffe_messages().Datum.FromString(bytes(cursor.value()))
        except DecodeError:
            return None


def first_datum(folder: Path) -> tuple[int, int, int] | None:
    """Channels, height and width of an LMDB's first record, None where none can be read or it is encoded."""
    datum = _first_record(folder)
    return None if datum is None or datum.encoded else (datum.channels, datum.height, datum.width)


def is_encoded(folder: Path) -> bool:
    """Whether an LMDB's first record holds an image file (JPEG, PNG), which Caffe has to decode."""
    datum = _first_record(folder)
    return datum is not None and bool(datum.encoded)


@cache
def largest_label(folder: Path) -> int | None:
    """The largest label among an LMDB's records (of a large one: of its first and its last thousands)."""
    from google.protobuf.message import DecodeError

    largest = None
    with _records(folder) as transaction:
        if transaction is None:
            return None
        cursor = transaction.cursor()
        ends = itertools.islice(cursor.iternext(keys=False), _LABELS_READ)
        cursor_back = transaction.cursor()
        back = itertools.islice(cursor_back.iterprev(keys=False), _LABELS_READ) if cursor_back.last() else ()
        for value in itertools.chain(ends, back):
            try:
                label = caffe_messages().Datum.FromString(bytes(value)).label
            except DecodeError:
                return None
            largest = label if largest is None else max(largest, label)
    return largest


def heads(net: PhaseNet | None) -> Iterator[tuple[Vertex, Vertex, int]]:
    """Each loss or accuracy that takes labels, the layer that makes its scores, and how many classes these are of.

    Those are left out whose number of classes the settings alone do not tell.
    """
    for vertex in graph(net).vertices if net is not None else ():
        if vertex.type not in LABEL_LAYERS or not vertex.bottoms:
            continue
        scores = vertex.bottoms[0][0]
        while _keeps_channels(scores):
            scores = scores.bottoms[0][0]
        axis = next((value for name, value in vertex.settings.items() if name.endswith("_param.axis")), 1)
        if scores.type == "InnerProduct" and scores.settings["inner_product_param.axis"] == axis:
            yield vertex, scores, int(scores.settings["inner_product_param.num_output"])
        if scores.type == "Convolution" and axis == scores.settings["convolution_param.axis"]:
            yield vertex, scores, int(scores.settings["convolution_param.num_output"])


def _keeps_channels(vertex: Vertex) -> bool:
    """Whether a layer makes as many channels as it reads; a Flatten where there is one pixel."""
    if vertex.type == "Flatten" and vertex.bottoms:
        before = vertex.bottoms[0][0]
        return before.type == "InnerProduct" or bool(before.settings.get("pooling_param.global_pooling"))
    return vertex.type in _CHANNELS_KEPT and bool(vertex.bottoms)


def classes(net: PhaseNet | None) -> int | None:
    """The most classes that a net tells apart, None where nothing tells."""
    return max((count for _, _, count in heads(net)), default=None)


def _phases(file: Prototxt) -> list[dict[str, Any]]:
    phases = file.header.get("phases")
    return [one for one in phases if isinstance(one, dict)] if isinstance(phases, list) else []


def samples_per_iteration(file: Prototxt) -> int | None:
    """Images behind one update of the weights: batch times ``iter_size``."""
    batch = batch_size(file.phase("TRAIN"))
    return None if batch is None or file.solver is None else batch * file.solver.iter_size


def batches(file: Prototxt) -> set[int]:
    """Every batch size that may stand in the file's name: of a forward pass, of an update, of each phase."""
    batch, update = batch_size(file.phase("TRAIN")), samples_per_iteration(file)
    found = {one for one in (batch, update) if one is not None}
    for phase in _phases(file):
        size = int(phase.get("batch_size") or batch or 0)
        found |= {size, size * int(phase.get("iter_size") or 1)}
    return found


@cache
def images_seen(file: Prototxt) -> int | None:
    """How many images training reads, phases of the header counted; None where a part is not known."""
    update = samples_per_iteration(file)
    if not update or file.solver is None or file.solver.max_iter <= 0:
        return None
    seen, start = 0, 0
    batch = batch_size(file.phase("TRAIN")) or 0
    for phase in _phases(file):
        until = min(int(phase.get("until") or 0), file.solver.max_iter)
        each = int(phase.get("batch_size") or batch) * int(phase.get("iter_size") or file.solver.iter_size)
        seen += max(until - start, 0) * each
        start = max(until, start)
    return seen + int(file.solver.max_iter - start) * update


def epochs(file: Prototxt) -> float | None:
    """How often training sees each image; None where a part is not known."""
    size, seen = data_size(file, file.phase("TRAIN")), images_seen(file)
    return seen / size if size and seen else None


def nearest(word: str, choices: Sequence[str]) -> str:
    """What was probably meant, else all that there is."""
    by_lower = {one.lower(): one for one in choices}
    near = difflib.get_close_matches(word.lower(), by_lower, 1, 0.6)
    return by_lower[near[0]] if near else f"one of {', '.join(choices)}"
