"""Facts about a file that several rules ask for: sizes of its data, batches, epochs, what its net is made of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from caffebench.generator.meaning import Graph, Layer, PhaseNet, Prototxt, build_graph

__all__ = [
    "batch_size",
    "batches",
    "data_layers",
    "data_size",
    "epochs",
    "graph",
    "images_seen",
    "samples_per_iteration",
    "sources",
]

_DATA_PARAMS = ("data_param", "image_data_param", "hdf5_data_param", "window_data_param", "memory_data_param")
_IMAGENET = {"TRAIN": 1_281_167, "TEST": 50_000}


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


def batch_size(net: PhaseNet | None) -> int | None:
    """The batch of the first data layer of a net, None where there is none."""
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


def data_size(file: Prototxt, phase: str) -> int | None:
    """Number of images of a phase's data set, None where nothing tells.

    It is what the file's header says, else what its LMDB holds if that is on this machine, else ImageNet's
    (ILSVRC 2012) for a net of 1,000 classes.
    """
    said = file.header.get("train_size" if phase == "TRAIN" else "test_size")
    if isinstance(said, int) and said > 0:
        return said
    net = file.phase(phase)
    for layer, name in data_layers(net) if net is not None else ():
        count = _entries(Path(getattr(layer.message, name).source)) if name == "data_param" else None
        if count is not None:
            return count
    return _IMAGENET[phase] if _classes(net) == 1000 else None


@cache
def _entries(folder: Path) -> int | None:
    """Number of records of an LMDB, None where there is none that can be read."""
    if not (folder / "data.mdb").is_file():
        return None
    import lmdb

    try:
        with lmdb.open(str(folder), readonly=True, lock=False) as environment:
            return int(environment.stat()["entries"])
    except lmdb.Error:
        return None


def _classes(net: PhaseNet | None) -> int | None:
    """Number of outputs of the layer that the classification loss or accuracy reads."""
    for vertex in graph(net).vertices if net is not None else ():
        if vertex.type in ("SoftmaxWithLoss", "Accuracy") and vertex.bottoms:
            scores = vertex.bottoms[0][0]
            while scores.type in ("Pooling", "Flatten", "Reshape", "Softmax", "BatchNorm", "Scale") and scores.bottoms:
                scores = scores.bottoms[0][0]
            for name in ("inner_product_param.num_output", "convolution_param.num_output"):
                if name in scores.settings:
                    return int(scores.settings[name])
    return None


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
    size, seen = data_size(file, "TRAIN"), images_seen(file)
    return seen / size if size and seen else None
