"""A net of any file reduced to what it computes for an image: the question that a deploy net answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from caffebench.generator.meaning import Graph, Layer, PhaseNet, Vertex, build_graph

__all__ = ["inference_graph"]

_SCORES = {"SoftmaxWithLoss": "Softmax", "SigmoidCrossEntropyLoss": "Sigmoid"}
# Settings that training alone reads.
_TRAINING = ("_filler", ".lr_mult", ".decay_mult", "loss_weight", "propagate_down", "loss_param", "moving_average")
_IDENTITIES = {"Dropout"}


def inference_graph(net: PhaseNet) -> Graph:
    """The graph of a net without data, labels, losses and dropout, its layers without what only training reads.

    A loss that applies softmax or sigmoid stands for that layer: a deploy net has it in its place.
    """
    kept: list[Layer] = []
    images: set[str] = set()
    renamed: dict[str, str] = {}
    scored: dict[tuple[str, str], str] = {}
    for layer in net.layers:
        message = type(layer.message)()
        message.CopyFrom(layer.message)
        message.bottom[:] = [renamed.get(name, name) for name in message.bottom]
        if not message.bottom and message.type != "Parameter":
            images |= set(message.top[:1])
            kept.append(replace(layer, message=_image(message)))
            continue
        if message.type in _IDENTITIES:
            renamed[message.top[0]] = message.bottom[0]
            continue
        if message.type in _SCORES:
            del message.bottom[1:]
            message.type = _SCORES[message.type]
            message.ClearField("loss_weight")
            message.ClearField("loss_param")
        elif message.type.endswith("Loss") or message.type in ("Accuracy", "ArgMax", "Silence"):
            continue
        if message.type in _SCORES.values():
            key = message.type, message.bottom[0]
            top = message.top[0] if message.top else layer.name
            if key in scored:  # probabilities beside the loss that computes them too
                renamed[top] = scored[key]
                continue
            scored[key] = top
        for top in message.top:
            renamed.pop(top, None)
        kept.append(replace(layer, message=message))
    graph = build_graph(PhaseNet("TEST", kept), loaded=True)  # what was trained is loaded by name
    for vertex in graph.vertices:
        vertex.settings = {k: v for k, v in vertex.settings.items() if not any(one in k for one in _TRAINING)}
        if vertex.type == "Image":
            vertex.settings = {"size": _size(vertex)}
    return graph


def _image(message: Any) -> Any:
    """A layer of data with only its images."""
    image = type(message)(name=message.name, type="Image", top=message.top[:1])
    crop = message.transform_param.crop_size
    if message.type == "Input" and message.input_param.shape and len(message.input_param.shape[0].dim) == 4:
        image.input_param.shape.add(dim=message.input_param.shape[0].dim[2:])
    elif crop:
        image.input_param.shape.add(dim=[crop, crop])
    return image


def _size(vertex: Vertex) -> tuple[int, ...] | None:
    shapes = vertex.layer.message.input_param.shape if vertex.layer is not None else ()
    return tuple(shapes[0].dim) if shapes else None
