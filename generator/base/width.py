"""Every hidden layer's number of outputs multiplied, and all that must fit together kept so.

Outputs that must stay equal are one *class*: the summands of an Eltwise, branches that share weights, what goes through
layers that work on each channel. A blob is a list of classes, several behind a Concat. A class of an output's layer, of
the data, or of any other given size is fixed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from math import floor, lcm
from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.base.draft import Draft, refuse, see_composed
from caffebench.generator.nets.wiring import LINEAR

__all__ = ["set_width"]

# Layers through which channels go one by one.
_THROUGH = {"ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "AbsVal", "BNLL", "Power", "Exp", "Log", "Swish", "Clip"}
_THROUGH |= {"Dropout", "LRN", "BatchNorm", "Scale", "Bias", "Softmax", "MVN", "Threshold", "Pooling", "Flatten"}
_THROUGH |= {"Split", "Crop", "Im2col", "SPP"}
_ENDS = {"Accuracy", "Silence", "HDF5Output", "ArgMax", "Reduction"}


class _Channels:
    """Classes of channels, joined when they turn out to be one (union-find)."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.size: list[int | None] = []
        self.fixed: list[bool] = []
        self.divisor: list[int] = []
        self.factor: list[Fraction] = []

    def new(self, size: int | None, fixed: bool, divisor: int = 1, factor: Fraction = Fraction(1)) -> int:
        self.parent.append(len(self.parent))
        self.size.append(size)
        self.fixed.append(fixed)
        self.divisor.append(divisor)
        self.factor.append(factor)
        return len(self.parent) - 1

    def find(self, one: int) -> int:
        while self.parent[one] != one:
            one = self.parent[one]
        return one

    def join(self, a: int, b: int) -> None:
        a, b = self.find(a), self.find(b)
        if a != b:
            self.parent[b] = a
            self.fixed[a] |= self.fixed[b]
            self.size[a] = self.size[a] or self.size[b]
            self.divisor[a] = lcm(self.divisor[a], self.divisor[b])
            self.factor[a] = min(self.factor[a], self.factor[b])

    def wide(self, one: int) -> int | None:
        """The size of a class after widening."""
        one = self.find(one)
        size, divisor = self.size[one], self.divisor[one]
        if size is None or self.fixed[one]:
            return size
        return max(1, floor(size * self.factor[one] / divisor + Fraction(1, 2))) * divisor


Parts = list[tuple[int, int]]  # a blob's classes, each with how often it is repeated (depthwise layers multiply)


def set_width(draft: Draft, factor_of: Callable[[Any], Fraction]) -> None:
    """Multiply ``num_output`` of each hidden linear layer by its factor, rounded to what groups need.

    Raises ``InputError`` with the layer where channels cannot be followed or summands would not fit.
    """
    wiring, channels = draft.wiring, _Channels()
    see_composed(wiring, "width")
    hidden = wiring.leads_to_linear()
    inputs: dict[int, Parts] = {}
    outputs: dict[int, Parts] = {}
    shared: dict[tuple[object, ...], tuple[Parts, Parts]] = {}
    for _, layers in wiring.built():
        blobs: dict[str, Parts] = {}
        named = Counter[str]()
        for layer in layers:
            bottoms = [blobs.get(name, [(channels.new(None, True), 1)]) for name in layer.bottom]
            if layer.type in LINEAR:
                parts = _linear(layer, bottoms[0], channels, id(layer) in hidden, factor_of(layer))
                inputs[id(layer)], outputs[id(layer)] = bottoms[0], parts
                named[layer.name] += 1
                # Weights are shared by their names, and between nets by the layer's.
                keys: list[tuple[object, ...]] = [("param", spec.name) for spec in layer.param[:1] if spec.name]
                for key in [*keys, (layer.name or id(layer), named[layer.name] if layer.name else 1)]:
                    read, made = shared.setdefault(key, (bottoms[0], parts))
                    _unify(layer, [made, parts], channels)
                    _unify(layer, [read, bottoms[0]], channels)
            else:
                parts = _other(layer, bottoms, channels)
            blobs |= dict.fromkeys(layer.top, parts)
    linear = [layer for layer in wiring.layers if layer.type in LINEAR]
    if all(channels.fixed[channels.find(one)] for layer in linear for one, _ in outputs[id(layer)]):
        raise InputError("width: the net has no hidden linear layer: the outputs' own sizes are given")
    for layer in linear:
        _resize(layer, inputs[id(layer)], outputs[id(layer)], channels)


def _message(layer: Any) -> Any:
    return layer.inner_product_param if layer.type == "InnerProduct" else layer.convolution_param


def _total(parts: Parts, channels: _Channels, wide: bool = False) -> int | None:
    sizes = [channels.wide(one) if wide else channels.size[channels.find(one)] for one, _ in parts]
    if None in sizes:
        return None
    return sum(size * times for size, (_, times) in zip(sizes, parts, strict=True) if size is not None)


def _depthwise(layer: Any, bottom: Parts, channels: _Channels) -> bool:
    group = 1 if layer.type == "InnerProduct" else layer.convolution_param.group
    return bool(group > 1 and group == _total(bottom, channels))


def _linear(layer: Any, bottom: Parts, channels: _Channels, hidden: bool, factor: Fraction) -> Parts:
    message = _message(layer)
    group = 1 if layer.type == "InnerProduct" else message.group
    if _depthwise(layer, bottom, channels):
        times = message.num_output // group
        if not hidden:  # an output's own: what feeds it keeps its size
            for one, _ in bottom:
                channels.fixed[channels.find(one)] = True
        return [(one, many * times) for one, many in bottom]
    if group > 1 and len(bottom) == 1:
        one, many = bottom[0]
        channels.divisor[channels.find(one)] = lcm(channels.divisor[channels.find(one)], group if many == 1 else 1)
    return [(channels.new(message.num_output, not hidden, group, factor), 1)]


def _other(layer: Any, bottoms: list[Parts], channels: _Channels) -> Parts:
    kind = layer.type
    if not bottoms:  # data, dummies, parameters
        return [(channels.new(None, True), 1)]
    if kind == "Concat" and layer.concat_param.axis == 1:
        return [part for parts in bottoms for part in parts]
    if kind in ("Eltwise", "Concat") or (kind in ("Scale", "Bias") and len(bottoms) > 1):
        return _unify(layer, bottoms, channels)
    if kind in _THROUGH or (kind == "Slice" and layer.slice_param.axis == 0 and not layer.slice_param.slice_dim):
        return bottoms[0]
    if kind == "Reduction" and layer.reduction_param.axis > 1:  # over the pixels of each channel
        return bottoms[0]
    scalable = any(not channels.fixed[channels.find(one)] for parts in bottoms for one, _ in parts)
    if kind in _ENDS or kind.endswith("Loss") or not scalable:
        return [(channels.new(None, True), 1)]
    raise refuse(layer, "width cannot be changed in front of it: how it uses its channels is not known")


def _unify(layer: Any, bottoms: list[Parts], channels: _Channels) -> Parts:
    """Make the classes of several blobs one by one the same."""
    first = bottoms[0]
    for other in bottoms[1:]:
        if first is other:
            continue
        known = [channels.size[channels.find(one)] for one, _ in (*first, *other)]
        same = len(first) == len(other) and all(a[1] == b[1] for a, b in zip(first, other, strict=True))
        if not same and None not in known:
            raise refuse(layer, "width: the channels that it combines are put together in different ways")
        if not same:
            for one, _ in (*first, *other):
                channels.fixed[channels.find(one)] = True
            continue
        for (a, _), (b, _) in zip(first, other, strict=True):
            channels.join(a, b)
    return first


def _resize(layer: Any, bottom: Parts, top: Parts, channels: _Channels) -> None:
    message = _message(layer)
    if _depthwise(layer, bottom, channels):
        outputs, group = _total(top, channels, wide=True), _total(bottom, channels, wide=True)
        if outputs is not None and group is not None:
            message.num_output, message.group = outputs, group
        return
    wide = channels.wide(top[0][0])
    if wide is not None:
        message.num_output = wide
    group = 1 if layer.type == "InnerProduct" else message.group
    inputs = _total(bottom, channels, wide=True)
    if group > 1 and inputs is not None and inputs % group:
        raise refuse(layer, f"width: its {group} groups would not divide the {inputs} channels that it reads")
