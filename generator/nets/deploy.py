"""The net for inference of any solver or net: data become an Input, losses what they squash, the rest of training goes.

What stays computes the same scores as the test net; the pictures must be prepared as the data layer did, which a
comment at the top of the file says.
"""

from __future__ import annotations

from typing import Any

from caffebench.common.caffe_facts import DATA_LAYERS
from caffebench.common.errors import InputError
from caffebench.engine.messages import caffe_messages
from caffebench.generator.meaning import PhaseNet, Prototxt, written
from caffebench.generator.nets.shapes import data_shape
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
    wiring = Wiring((make.FromString(layer.message.SerializeToString()) for layer in net.layers), make)
    for layer in wiring.layers:
        for field in ("include", "exclude", "propagate_down", "phase"):
            layer.ClearField(field)
    outputs = _replace_losses(wiring)
    for layer in [one for one in wiring.layers if one.type == "Dropout"]:
        wiring.remove(layer)
    kept = _needed(wiring, outputs)
    wiring.layers = [layer for layer in wiring.layers if id(layer) in kept]
    for layer in [one for one in wiring.layers if one.type in DATA_LAYERS]:
        _as_input(wiring, layer, file.header.get("shape"), strict)
    for layer in wiring.layers:
        _forget_training(layer)
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
    losses = [layer for layer in wiring.layers if layer.type.endswith("Loss")]
    weights = {id(layer): layer.loss_weight[0] if layer.loss_weight else 1.0 for layer in losses}
    main = [layer for layer in losses if weights[id(layer)] == max(weights.values())]  # auxiliary ones weigh less
    judged = main or [layer for layer in wiring.layers if layer.type == "Accuracy"]
    ends = (*losses, *(one for one in wiring.layers if one.type in ("Accuracy", "Silence", "HDF5Output")))
    outputs = []
    for loss in judged:
        squash = _SQUASHES.get(loss.type)
        for number in range(1 if squash or loss.type == "Accuracy" else len(loss.bottom)):
            sources = [one for one in wiring.sources(loss, number) if one.type not in DATA_LAYERS]
            outputs += [one for one in sources if one.bottom]
        if squash:
            name = wiring.unique("prob" if len(main) == 1 else f"{loss.name}/prob")
            outputs.append(wiring.new(name, squash, loss.bottom[:1], [name]))
            if squash == "Softmax" and loss.softmax_param.axis != 1:
                outputs[-1].softmax_param.axis = loss.softmax_param.axis
            wiring.insert_before(loss, outputs[-1:])
    wiring.layers = [layer for layer in wiring.layers if not any(layer is end for end in ends)]
    if not judged:
        outputs = [layer for layer in wiring.layers if layer.top and not wiring.after(layer)]
    return outputs


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


def _as_input(wiring: Wiring, layer: Any, record: Any, strict: bool) -> None:
    """An Input layer for each top of a data layer that is read: its pictures, and labels where a layer needs them."""
    shape = data_shape(layer, record)
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
            one.input_param.shape.add(dim=(1, *shape[1:]) if number == 0 else (1,))
        new.append(one)
    wiring.replace(layer, new)


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
