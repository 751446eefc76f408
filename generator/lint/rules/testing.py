"""Rules on what is compared with what: scores with labels, and the tests with what was trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from caffebench.generator.lint.facts import data_layers, find, heads, largest_label, learns
from caffebench.generator.lint.registry import Hit, named, of_layer, rule
from caffebench.generator.meaning import Layer, PhaseNet, Prototxt, Vertex, has_weights


@rule("labels", "error", why="Caffe reads past the scores for such a label: the loss is noise")
def labels(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Labels in an LMDB that a layer that compares scores with them has no output for."""
    for net in file.phases:
        for vertex, scores, outputs in heads(net):
            layer = _labels_of(vertex)
            place = find(file, layer.message.data_param.source) if layer is not None else None
            largest = largest_label(place) if place is not None else None
            if layer is None or largest is None or largest < outputs or largest == _ignored(vertex):
                continue
            what = f"labels up to {largest} in {layer.message.data_param.source}, {outputs} outputs of {scores.name}"
            yield of_layer(layer, what, f"num_output: {largest + 1} in {scores.name}", "data_param.source")


def _labels_of(vertex: Vertex) -> Layer | None:
    """The Data layer whose labels a layer reads as they are, and not what another layer makes of them."""
    source, top = vertex.bottoms[1] if len(vertex.bottoms) > 1 else (vertex, 0)
    return source.layer if source.type == "Data" and top == 1 else None


def _ignored(vertex: Vertex) -> int | None:
    return next((value for name, value in vertex.settings.items() if name.endswith(".ignore_label")), None)


@rule("top-k", "warning", why="the true class is always among all of them: it is 1 whatever the net has learned")
def top_k(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """An Accuracy whose ``top_k`` is as many as there are classes, or more."""
    for net in file.phases:
        for vertex, scores, outputs in heads(net):
            k = vertex.settings.get("accuracy_param.top_k", 0)
            if k >= outputs and vertex.layer is not None:
                yield of_layer(
                    vertex.layer,
                    f"top_k {k} of the {outputs} outputs of {scores.name}",
                    "a smaller top_k",
                    "accuracy_param.top_k",
                    severity="error" if k > outputs else None,
                    why="Caffe stops when it sets the layer up: top_k must be at most the number of classes"
                    if k > outputs
                    else "",
                )


@rule(
    "untrained-layer",
    "error",
    why="Caffe hands weights to a test net by the names of layers: these stay as they are filled: the test is noise",
)
def untrained_layer(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A TEST layer has weights, and no layer of TRAIN has its name.

    What is loaded (``weights``) or written out (a filler that is constant or bilinear) is there on purpose.
    """
    trained = {
        layer.name for net in file.phases if net.phase == "TRAIN" for layer in net.layers if has_weights(layer.message)
    }
    lost = [
        layer
        for net in file.phases
        for layer in net.layers
        if net.phase == "TEST"
        and has_weights(layer.message)
        and layer.name not in trained
        and not _is_written_out(layer)
    ]
    if lost and trained and not file.loads_weights:
        fix = f"the name that it has in TRAIN, one of {', '.join(sorted(trained)[:5])}{', ...' * (len(trained) > 5)}"
        yield Hit("weights that no layer of TRAIN has", fix, named(lost), lost[0].node.at("name"), lost[0].path)


def _is_written_out(layer: Layer) -> bool:
    """Whether a layer's fillers say all its weights."""
    fillers: list[Any] = [
        filler
        for _, message in layer.message.ListFields()
        if hasattr(message, "ListFields")
        for field, filler in message.ListFields()
        if field.message_type is not None
        and field.message_type.name == "FillerParameter"
        and field.name != "bias_filler"
    ]
    return bool(fillers) and all(one.type in ("constant", "bilinear") for one in fillers)


@rule("test-data", "warning", why="the accuracy is that of images that the net has learned: of others it says nothing")
def test_data(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """All tests read the data that are trained on. Beside a test of other data they are meant."""
    train, tests = learns(file), [net for net in file.phases if net.phase == "TEST"]
    if train is None or (file.solver is None and any([*data_layers(net)] == [*data_layers(train)] for net in tests)):
        return  # a layer of both phases in a net that may be meant for one
    read = _read(file, train)
    seen = [_read(file, net) for net in tests]
    if seen and all(one and one <= read for one in seen):
        layer, name = next(data_layers(tests[0]))
        what = f"{getattr(layer.message, name).source} is what TRAIN reads"
        yield of_layer(layer, what, "the data that are kept for tests", f"{name}.source")


def _read(file: Prototxt, net: PhaseNet) -> set[Path]:
    """The databases and lists that a net's data layers read."""
    names = [getattr(getattr(layer.message, name), "source", "") for layer, name in data_layers(net)]
    return {(find(file, name) or Path(name)).resolve() for name in names if name}
