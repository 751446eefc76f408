"""The net for inference of any solver or net: data become an Input, losses what they squash, the rest of training goes.

What stays computes the same scores as the test net, of every task that it was trained for; the pictures must be
prepared as the data layer did, which a comment at the top of the file says. It takes one picture at a time, or the
test's batch where a layer is of that size.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from caffebench.common.caffe_facts import DATA_LAYERS
from caffebench.common.errors import InputError
from caffebench.engine.messages import caffe_messages
from caffebench.generator.meaning import PhaseNet, Prototxt, has_weights, written
from caffebench.generator.nets.shapes import data_shape, infer
from caffebench.generator.nets.wiring import LINEAR, Wiring

__all__ = ["deploy", "deployed_layers"]

# What a loss computes of its scores before it compares them.
_SQUASHES = {"SoftmaxWithLoss": "Softmax", "InfogainLoss": "Softmax", "SigmoidCrossEntropyLoss": "Sigmoid"}


def deploy(file: Prototxt) -> str:
    """The text of the net for inference. Raises ``InputError`` where the size of its input cannot be known."""
    from google.protobuf import text_format

    try:
        net = caffe_messages().NetParameter(layer=deployed_layers(file))
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(str(file.path)) else f"{file.path}: {error}") from error
    for one in (file.solver.net_param, file.solver.train_net_param) if file.solver is not None else ():
        if one.name:
            net.name = one.name
    lines = [f"# The net of {file.path.name} for inference.", *_preparation(_test_net(file))]
    return "\n".join(lines) + "\n" + str(text_format.MessageToString(net, as_utf8=True))


def deployed_layers(file: Prototxt, strict: bool = True) -> list[Any]:
    """The layers of the net for inference; not ``strict``: also where the size of its input is not known."""
    net, make = _test_net(file), caffe_messages().LayerParameter
    layers = [make.FromString(layer.message.SerializeToString()) for layer in net.layers]
    for layer in layers:
        for field in ("include", "exclude", "propagate_down", "phase"):
            layer.ClearField(field)
    wiring = Wiring(layers, make)
    outputs = _replace_losses(wiring)
    for layer in [one for one in wiring.layers if one.type == "Dropout"]:
        wiring.remove(layer)
    kept = _needed(wiring, outputs)
    wiring.layers = [layer for layer in wiring.layers if id(layer) in kept]
    inputs = [
        one for layer in wiring.layers if layer.type in DATA_LAYERS for one in _as_inputs(wiring, layer, file, strict)
    ]
    for layer in wiring.layers:
        _forget_training(layer)
    _take_one_picture(wiring.layers, inputs)
    return wiring.layers


def _test_net(file: Prototxt) -> PhaseNet:
    for name, node in file.missing:
        raise InputError(f"{file.path}:{node.line}: no net file {name}, from the working folder or beside it")
    net = file.phase("TEST") or file.phase("TRAIN")
    if net is None or not net.layers:
        raise InputError(f"{file.path} has no net")
    return net


def _replace_losses(wiring: Wiring) -> list[Any]:
    """Exchange each main loss for what it squashes; the layers that make the outputs."""
    learned = _learned(wiring)
    losses = [layer for layer in wiring.layers if layer.type.endswith("Loss") or any(layer.loss_weight)]
    main = _main(wiring, losses, learned)
    judged = set().union(*(_targets(wiring, loss, learned) for loss in main))
    accuracies = [layer for layer in wiring.layers if layer.type == "Accuracy"]
    squashing = [loss for loss in main if loss.type in _SQUASHES]
    outputs: list[Any] = []
    for loss in main:
        if loss.type in _SQUASHES:
            outputs.append(_squashed(wiring, loss, "prob" if len(squashing) == 1 else f"{loss.name}/prob"))
        else:
            outputs += _scores(wiring, loss, learned)
    for accuracy in accuracies:  # of a task whose loss is in TRAIN only
        if not judged & _targets(wiring, accuracy, learned):
            outputs += wiring.sources(accuracy)
    ends = [*losses, *accuracies, *(one for one in wiring.layers if one.type in ("Silence", "HDF5Output"))]
    wiring.layers = [layer for layer in wiring.layers if not any(layer is end for end in ends)]
    return outputs or [layer for layer in wiring.layers if layer.top and not wiring.after(layer)]


def _learned(wiring: Wiring) -> set[int]:
    """The layers, by ``id``, that are computed with weights: no data, no labels, nor what is made of those alone."""
    found: set[int] = set()
    for layer in wiring.layers:
        if (layer.bottom and has_weights(layer)) or any(id(source) in found for source, _ in _sources(wiring, layer)):
            found.add(id(layer))
    return found


def _sources(wiring: Wiring, layer: Any) -> list[tuple[Any, str]]:
    """The layers that a layer reads, each with the name of the blob."""
    return [(source, name) for number, name in enumerate(layer.bottom) for source in wiring.sources(layer, number)]


def _targets(wiring: Wiring, judge: Any, learned: set[int]) -> set[tuple[int, str]]:
    """What a loss or an accuracy compares scores with: the blobs that are not computed with weights."""
    return {(id(source), name) for source, name in _sources(wiring, judge) if id(source) not in learned}


def _main(wiring: Wiring, losses: list[Any], learned: set[int]) -> list[Any]:
    """The losses of all tasks. Of those with one target the lighter are auxiliary, and so is what weighs nothing."""
    heaviest: dict[object, float] = defaultdict(float)
    tasks = []
    for loss in losses:
        task = frozenset(_targets(wiring, loss, learned)) or id(loss)
        weight = abs(loss.loss_weight[0]) if loss.loss_weight else 1.0
        tasks.append((loss, task, weight))
        heaviest[task] = max(heaviest[task], weight)
    return [loss for loss, task, weight in tasks if weight == heaviest[task] > 0] or losses


def _squashed(wiring: Wiring, loss: Any, name: str) -> Any:
    """The layer that squashes what a loss reads: the net's own for its tests, else a new one."""
    squash, axis = _SQUASHES[loss.type], loss.softmax_param.axis
    for source in wiring.sources(loss):
        for layer, _ in wiring.readers(source, list(source.top).index(loss.bottom[0])):
            if layer.type == squash and layer.softmax_param.axis == axis:
                return layer
    name = wiring.unique(name)
    layer = wiring.new(name, squash, loss.bottom[:1], [name])
    if squash == "Softmax" and axis != 1:
        layer.softmax_param.axis = axis
    wiring.insert_before(loss, [layer])
    return layer


def _scores(wiring: Wiring, loss: Any, learned: set[int]) -> list[Any]:
    """What a loss compares with a target; seen through layers that compare or mask it themselves, as an Eltwise."""
    sources = [source for source, _ in _sources(wiring, loss)]
    scores = [source for source in sources if id(source) in learned]
    used = wiring.leads_to_linear()
    found = []
    for score in scores:
        beside = [one for one, _ in _sources(wiring, score) if id(one) not in learned and id(one) not in used]
        found += _scores(wiring, score, learned) if beside else [score]
    return found or [source for source in sources if source.bottom]


def _needed(wiring: Wiring, outputs: list[Any]) -> set[int]:
    """The layers, by ``id``, that the outputs are computed from."""
    kept: set[int] = set()
    left = [layer for layer in outputs if any(layer is one for one in wiring.layers)]
    while left:
        layer = left.pop()
        if id(layer) not in kept:
            kept.add(id(layer))
            left += [source for number in range(len(layer.bottom)) for source in wiring.sources(layer, number)]
    return kept


def _as_inputs(wiring: Wiring, layer: Any, file: Prototxt, strict: bool) -> list[Any]:
    """Put an Input layer in the place of each top of a data layer that is read: pictures, labels if a layer needs them.

    Of the test's batch, where that is known.
    """
    shape = data_shape(layer, file.header.get("shape"))
    if shape is None and strict:
        raise InputError(
            f"layer {layer.name} ({layer.type}): the size of its pictures is not known: make its data "
            f"({layer.data_param.source or 'none named'}), or say crop_size and mean_value"
        )
    new = []
    for number, top in enumerate(layer.top):
        if not wiring.readers(layer, number):
            continue
        one = wiring.new(top, "Input", [], [top])
        if shape is not None:
            one.input_param.shape.add(dim=shape if number == 0 else shape[:1])
        new.append(one)
    wiring.replace(layer, new)
    return new


def _take_one_picture(layers: list[Any], inputs: list[Any]) -> None:
    """Make the batch 1, unless a layer is made for the test's: a Reshape that says it, made-up data of its size."""
    whole = _shapes_of_pictures(layers)
    batches = [(shape, shape.dim[0]) for layer in inputs for shape in layer.input_param.shape]
    for shape, _ in batches:
        shape.dim[0] = 1
    if whole is not None and _shapes_of_pictures(layers) != whole:
        for shape, batch in batches:
            shape.dim[0] = batch


def _shapes_of_pictures(layers: list[Any]) -> list[Any] | None:
    """The shapes of all tops behind the batch, None where layers do not fit each other."""
    try:
        return [None if top is None else top[1:] for one in infer(layers) for top in one.tops]
    except InputError:
        return None


def _forget_training(layer: Any) -> None:
    names = [spec.name for spec in layer.param]
    layer.ClearField("param")
    layer.ClearField("loss_weight")
    for name in names if any(names) else []:
        layer.param.add(name=name)
    if layer.type in LINEAR:
        message = layer.inner_product_param if layer.type == "InnerProduct" else layer.convolution_param
        message.ClearField("weight_filler")
        message.ClearField("bias_filler")


def _preparation(net: PhaseNet) -> list[str]:
    """What the data layer did to the pictures, in words."""
    lines = []
    for layer in net.layers:
        p = layer.message.transform_param
        if layer.type not in DATA_LAYERS:
            continue
        means = f"minus {', '.join(map(written, p.mean_value))}" if p.mean_value else ""
        means = f"minus the mean in {p.mean_file}" if p.mean_file else means
        steps = [f"the middle {p.crop_size} x {p.crop_size} pixels" if p.crop_size else "", means]
        steps.append(f"times {written(p.scale)}" if p.scale != 1 else "")
        said = ", then ".join(step for step in steps if step) or "the pixels as they are, 0 to 255"
        lines.append(f"# {layer.message.top[0]}: {' '.join(said.split())}.")
    return lines
