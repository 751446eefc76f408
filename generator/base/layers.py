"""Dropout, pooling and fillers: settings of layers that are there, and dropout where it is missing."""

from __future__ import annotations

from caffebench.common.errors import InputError
from caffebench.generator.base.draft import Draft, hidden_activations, refuse
from caffebench.generator.nets.shapes import LayerShapes
from caffebench.generator.nets.wiring import LINEAR, is_upsampling

__all__ = ["set_dropout", "set_fillers", "set_pooling"]


def set_dropout(draft: Draft, ratio: float) -> None:
    """The ratio of every Dropout layer; 0 takes them out; if there are none, they are put in.

    They go behind the activations of hidden fully connected layers; a net without such gets one before each output's
    linear layer. Raises ``InputError`` where there is neither.
    """
    wiring = draft.wiring
    layers = [layer for layer in wiring.layers if layer.type == "Dropout"]
    for layer in layers:
        if ratio:
            layer.dropout_param.dropout_ratio = ratio
        else:
            wiring.remove(layer)
    if layers or not ratio:
        return
    places = []
    for activation in hidden_activations(wiring, "dropout"):
        linear = wiring.chain_above(activation, {"BatchNorm", "Scale", "Bias"})
        if linear is not None and linear.type == "InnerProduct":
            last = activation
            while norms := [one for one in wiring.after(last) if one.type in ("BatchNorm", "Scale")]:
                last = norms[0]
            places.append((last, f"drop_{linear.name}"))
    for head in [] if places else wiring.heads():
        for source in wiring.sources(head):
            if source.bottom and not any(source is place for place, _ in places):
                places.append((source, f"drop_{head.name}"))
    if not places:
        raise InputError("dropout: the net has no hidden layer behind which dropout could stand")
    for place, name in places:
        top = next((one for one in place.top if wiring.readers(place, list(place.top).index(one))), place.top[0])
        layer = wiring.new(wiring.unique(name, place), "Dropout", [top], [top], like=place)
        layer.dropout_param.dropout_ratio = ratio
        wiring.insert_after(place, [layer])


def set_pooling(draft: Draft, kind: str) -> None:
    """The kind of every pooling but the global ones: ``max``, ``ave``, or ``max_ave``, the sum of both."""
    wiring = draft.wiring
    whole = {id(one.layer) for _, shapes in draft.shapes() for one in shapes if _is_global_mean(one)}
    layers = [
        layer
        for layer in wiring.layers
        if layer.type == "Pooling" and not layer.pooling_param.global_pooling and id(layer) not in whole
    ]
    if not layers:
        raise InputError("pool: the net has no pooling layer, but for global ones, which stay")
    for layer in layers:
        if len(layer.top) > 1:
            raise refuse(layer, "its second top is the place of each maximum, which another kind of pooling has not")
        methods = layer.pooling_param.PoolMethod
        if kind != "max_ave":
            layer.pooling_param.pool = methods.Value(kind.upper())
            continue
        name, top = layer.name, layer.top[0]
        halves = []
        for one in ("max", "ave"):
            half = type(layer).FromString(layer.SerializeToString())
            half.name = half.top[0] = wiring.unique(f"{name}/{one}", layer)
            half.pooling_param.pool = methods.Value(one.upper())
            halves.append(half)
        both = wiring.new(name, "Eltwise", [half.top[0] for half in halves], [top], like=layer)
        both.eltwise_param.operation = both.eltwise_param.EltwiseOp.Value("SUM")
        wiring.replace(layer, [*halves, both])


def _is_global_mean(one: LayerShapes) -> bool:
    """Whether a pooling takes the mean of a whole map: global pooling, however it is written."""
    means = one.layer.type == "Pooling" and one.layer.pooling_param.pool == one.layer.pooling_param.AVE
    shapes = [*one.bottoms[:1], *one.tops[:1]]
    if not means or None in shapes:
        return False
    before, after = (tuple(shape[2:]) for shape in shapes if shape is not None)
    return after == (1, 1) and before != (1, 1)


def set_fillers(draft: Draft, kind: str, std: float | None) -> None:
    """How the weights of every linear layer are filled, but for upsampling. Raises ``InputError``."""
    layers = [layer for layer in draft.wiring.layers if layer.type in LINEAR and not is_upsampling(layer)]
    if not layers:
        raise InputError("filler: the net has no linear layer whose weights could be filled")
    for layer in layers:
        message = layer.inner_product_param if layer.type == "InnerProduct" else layer.convolution_param
        message.weight_filler.Clear()
        message.weight_filler.type = kind
        if kind == "gaussian":
            message.weight_filler.std = 0.01 if std is None else std
