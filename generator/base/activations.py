"""Activations exchanged: one layer for another, none, or one that Caffe has not and that is composed of others."""

from __future__ import annotations

from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.base.draft import ACTIVATIONS, Draft, hidden_activations, refuse, see_features, share
from caffebench.generator.nets.presence import keep_to_phase
from caffebench.generator.nets.wiring import LINEAR, Wiring, in_place, retitled

__all__ = ["BETWEEN", "add_maxout", "set_activation"]

_TYPES = {"relu": "ReLU", "prelu": "PReLU", "elu": "ELU", "sigmoid": "Sigmoid", "tanh": "TanH"}
_LOWER, _UPPER = 0.125, 0.333  # of RReLU's slopes, as in the paper's competition net
BETWEEN = {"BatchNorm", "Scale", "Bias", "Pooling"}
"""What may stand between a linear layer and its activation."""


def set_activation(draft: Draft, kind: str) -> None:
    """Replace every hidden activation by ``kind`` (`none` takes them out). Raises ``InputError``."""
    wiring = draft.wiring
    layers = hidden_activations(wiring, "activation")
    if not layers and kind != "none":
        raise InputError(f"activation: the net has no hidden activation ({', '.join(sorted(ACTIVATIONS))}) to replace")
    shapes = {id(layer): draft.bottom_shape(layer, "TRAIN") for layer in layers} if kind == "rrelu" else {}
    for layer in layers:
        if kind == "none":
            wiring.remove(layer)
        elif kind == "rrelu":
            _compose_rrelu(wiring, layer, shapes[id(layer)])
        else:
            if kind == "prelu":
                see_features(draft, layer, "PReLU")
            _exchange(wiring, layer, _TYPES[kind])


def _exchange(wiring: Wiring, layer: Any, kind: str) -> None:
    old = layer.type
    for field, _ in layer.ListFields():
        if field.name.endswith("_param"):
            layer.ClearField(field.name)
    if kind == old and kind != "PReLU":
        return
    linear = wiring.chain_above(layer, BETWEEN)
    layer.type = kind
    name = retitled(layer.name, old, kind)
    if name != layer.name:
        if not in_place(layer) and layer.top[0] == layer.name:
            wiring.rename(layer, 0, name)
        layer.name = name
    del layer.param[:]
    if kind == "PReLU":
        share(layer, 1, linear, "slope", 1)


def _compose_rrelu(wiring: Wiring, layer: Any, shape: tuple[int, ...] | None) -> None:
    """RReLU (Xu et al., arXiv:1505.00853): in TRAIN a random slope for each negative value, in TEST the mean slope."""
    name, bottom = retitled(layer.name, layer.type, "rrelu"), layer.bottom[0]
    if in_place(layer):
        wiring.rename(layer, 0, wiring.unique(f"{name}/out"))
    top = layer.top[0]
    test = wiring.new(f"{name}/test", "ReLU", [bottom], [top], like=layer)
    test.relu_param.negative_slope = (_LOWER + _UPPER) / 2
    new = []
    if "TRAIN" in wiring.phases(layer):
        if shape is None:
            raise refuse(
                layer, "RReLU draws a slope for each value, and how many there are is not known: make its data"
            )
        positive = wiring.new(f"{name}/positive", "ReLU", [bottom], [f"{name}/positive"], like=layer)
        minus = wiring.new(f"{name}/minus", "Power", [bottom], [f"{name}/minus"], like=layer)
        minus.power_param.scale = -1
        negative = wiring.new(f"{name}/negative", "ReLU", minus.top, [f"{name}/negative"], like=layer)
        slopes = wiring.new(f"{name}/slopes", "DummyData", [], [f"{name}/slopes"], like=layer)
        slopes.dummy_data_param.shape.add(dim=shape)
        slopes.dummy_data_param.data_filler.add(type="uniform", min=_LOWER, max=_UPPER)
        sloped = wiring.new(f"{name}/sloped", "Eltwise", [*negative.top, *slopes.top], [f"{name}/sloped"], like=layer)
        sloped.eltwise_param.operation = sloped.eltwise_param.EltwiseOp.Value("PROD")
        summed = wiring.new(f"{name}/sum", "Eltwise", [*positive.top, *sloped.top], [top], like=layer)
        summed.eltwise_param.coeff.extend([1, -1])
        new = [positive, minus, negative, slopes, sloped, summed]
        for one in new:
            keep_to_phase(one, "TRAIN")
    if "TEST" in wiring.phases(layer):
        keep_to_phase(test, "TEST")
        new.append(test)
    wiring.replace(layer, new)


def add_maxout(draft: Draft) -> None:
    """Maxout (Goodfellow et al., arXiv:1302.4389) of two: each linear layer twice, the larger output of both.

    The widths are not changed here. Raises ``InputError`` with the layer where what an activation is of is no linear
    layer alone.
    """
    wiring = draft.wiring
    layers = hidden_activations(wiring, "activation")
    if not layers:
        raise InputError("activation: the net has no hidden activation to replace by maxout")
    doubled: dict[int, Any] = {}
    activated: set[tuple[int, int]] = set()  # a linear layer in a net in which its activation follows
    for layer in layers:
        above = wiring.all_above(layer, BETWEEN)
        if not above or above[0].type not in LINEAR:
            what = f"{above[0].name} ({above[0].type})" if above else "nothing"
            raise refuse(layer, f"maxout takes the larger of two linear layers, and before this stands {what}")
        doubled |= {id(linear): linear for linear in above}
        activated |= {(id(linear), net) for linear in above for net in wiring.nets(layer)}
    for linear in doubled.values():
        for net in wiring.nets(linear):
            if len(wiring.readers(linear, within={net})) != 1 or (id(linear), net) not in activated:
                raise refuse(linear, "maxout would change what others than its activation read of it")
    for layer in layers:
        wiring.remove(layer)
    for linear in doubled.values():
        _double(wiring, linear)


def _double(wiring: Wiring, linear: Any) -> None:
    name, blob = linear.name, linear.top[0]
    copy = type(linear).FromString(linear.SerializeToString())
    linear.name, copy.name = f"{name}_a", f"{name}_b"
    for one, letter in ((linear, "a"), (copy, "b")):
        one.top[0] = f"{name}_{letter}"
        for spec in one.param:
            if spec.name:
                spec.name = f"{spec.name}_{letter}"
    largest = wiring.new(name, "Eltwise", [linear.top[0], copy.top[0]], [blob], like=linear)
    largest.eltwise_param.operation = largest.eltwise_param.EltwiseOp.Value("MAX")
    wiring.insert_after(linear, [copy, largest])
