"""Layer-sequential unit-variance initialisation (LSUV) of a Caffe net: each layer runs once, and once more to check.

Mishkin and Matas 2015, "All you need is a good init", arXiv:1511.06422, section 3, algorithm 1: start from
orthonormal matrices, then, layer by layer, divide the weights by the standard deviation of the layer's output.
The algorithm there runs the net again and measures again until the variance is near one. It needs no second try:
a layer is linear in its weights, so the scale that gives unit variance follows from one measurement. Nor does it
need to run from the data again: what lies before a layer has not changed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from caffebench.common.caffe_facts import InitMethod
from caffebench.common.errors import CaffebenchError, InputError
from caffebench.common.events import InitEvent, SkippedInitEvent
from caffebench.launcher.init.ortho import FloatArray, Orthonormal, single_threaded_lapack

__all__ = ["LINEAR", "METHODS", "frozen_layers", "initialise"]

METHODS = tuple(one for one in get_args(InitMethod) if one != "none")

LINEAR = ("Convolution", "Deconvolution", "InnerProduct")
"""The layer types that are initialised: the ones that the paper's section 3 speaks of."""

TOLERANCE = 0.05
"""How far from one a variance may be at the check. Arithmetic leaves about 1e-5."""

_NOT_LINEAR = {
    "BatchNorm": "running statistics, not weights",
    "Scale": "the scale and shift of a normalisation stay at their filler",
    "Bias": "biases stay at their filler",
    "PReLU": "the slopes of an activation stay at their filler",
}


@dataclass(frozen=True)
class _Layer:
    """One layer to initialise, by its place in the net: Caffe does not keep names unique."""

    index: int
    name: str
    type: str
    weight: Any  # the blobs, never their arrays: on a GPU an array goes stale with the next forward
    bias: Any | None
    tops: Sequence[Any]
    groups: int

    def draw(self, seed: int) -> Orthonormal:
        """Its orthonormal weights, which depend on the seed and the layer's own name, not on what else is in the net.

        So two variants of one architecture start alike wherever they are alike.
        """
        generator = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        return Orthonormal(self.weight.data, generator, groups=self.groups)

    def refusal(self, why: str) -> CaffebenchError:
        return CaffebenchError(f"LSUV: layer {self.name!r} ({self.type}) {why}")


@dataclass(frozen=True)
class _Scaling:
    """The variance of a layer's output before and after, and the factor of its weights; None where not scaled."""

    variance_before: float | None = None
    variance_after: float | None = None
    scale: float | None = None


def initialise(
    net: Any,
    *,
    method: str,
    seed: int,
    report: Callable[[InitEvent | SkippedInitEvent], None] | None = None,
    keep: Collection[str] = (),
) -> None:
    """Initialise the weights of every convolution and inner product of ``net``, a ``caffe.Net`` of phase TRAIN.

    ``lsuv``, and ``ortho-lsuv`` which is its name in the authors' own script, give orthonormal weights scaled to
    unit variance of the layer's output over the batch (all elements together; before an in-place activation;
    dropout active). ``ortho`` gives the orthonormal weights alone and runs nothing. Everything else in the net,
    biases and the statistics of BatchNorm included, is afterwards as it was. Layers named in ``keep`` are left
    alone; of layers that share their weights the first decides.

    ``report`` gets one event for each layer with parameters, in net order, when all is done.

    ``lsuv`` takes exactly one batch from each data layer of the net and calls ``caffe.set_random_seed``: seed
    again before training. ``seed`` is 0 to 2**32 - 1. Raises ``InputError`` for an unknown method and
    ``CaffebenchError`` where a layer cannot have unit variance: constant or not finite output, too large a bias.
    """
    if method not in METHODS:
        raise InputError(f"unknown initialisation {method!r}: choose one of {', '.join(METHODS)}")
    layers, skipped = _find_layers(net, keep)
    drawn = [layer.draw(seed) for layer in layers]
    with single_threaded_lapack(), ThreadPoolExecutor(1) as pool:
        # The matrices of the large layers are computed while the convolutions before them run.
        finished = pool.map(Orthonormal.finish, drawn)
        scalings = {}
        if method == "ortho":
            scalings = {layer.index: _Scaling() for layer, _ in zip(layers, finished, strict=True)}
        else:
            scalings = _give_unit_variance(net, layers, finished, seed)
    if report is None:
        return
    events: dict[int, InitEvent | SkippedInitEvent] = {
        index: SkippedInitEvent(method, net._layer_names[index], net.layers[index].type, reason)
        for index, reason in skipped.items()
    }
    for layer in layers:
        events[layer.index] = InitEvent(
            method, layer.name, layer.type, tuple(layer.weight.shape), **vars(scalings[layer.index])
        )
    for index in sorted(events):
        report(events[index])


def frozen_layers(layers: Iterable[Any]) -> set[str]:
    """The names of those ``LayerParameter`` whose weights never learn (``lr_mult: 0``), to be passed as ``keep``.

    Their filler is what their author means them to be, such as a bilinear upsampling.
    """
    return {layer.name for layer in layers if layer.param and layer.param[0].lr_mult == 0}


def _find_layers(net: Any, keep: Collection[str]) -> tuple[list[_Layer], dict[int, str]]:
    """The layers to initialise, in net order, and by index why others with parameters are not."""
    layers: list[_Layer] = []
    skipped: dict[int, str] = {}
    owners: dict[int, int] = {}
    for index, name in enumerate(net._layer_names):
        kind, blobs = net.layers[index].type, list(net.layers[index].blobs)
        if not blobs:
            continue
        owner = owners.setdefault(_memory(blobs[0]), index)
        if kind not in LINEAR:
            skipped[index] = _NOT_LINEAR.get(kind, f"LSUV is defined for {', '.join(LINEAR)}")
        elif name in keep:
            skipped[index] = "kept as it is"
        elif owner != index:
            skipped[index] = f"shares the weights of {net._layer_names[owner]}"
        else:
            bottoms, tops = ([net._blobs[i] for i in ids(index)] for ids in (net._bottom_ids, net._top_ids))
            bias = blobs[1] if len(blobs) > 1 else None
            groups = _groups(kind, blobs[0], bottoms[0], tops[0])
            layers.append(_Layer(index, name, kind, blobs[0], bias, tops, groups))
    return layers, skipped


def _memory(blob: Any) -> int:
    """Where a blob's numbers lie: layers share a parameter by sharing its memory."""
    return int(blob.data.ctypes.data)


def _groups(kind: str, weight: Any, bottom: Any, top: Any) -> int:
    """In how many groups a layer's channels fall, from the shapes: pycaffe does not show the definition.

    The weights of a Deconvolution are those of the convolution that it transposes (Caffe's
    ``base_conv_layer.cpp``): (inputs, outputs per group, kernel height, kernel width).
    """
    if kind == "InnerProduct":
        return 1
    channels = list((top if kind == "Deconvolution" else bottom).shape)[_channel_axis(weight)]
    return int(channels // weight.shape[1])


def _channel_axis(weight: Any) -> int:
    """The axis of the output channels in a layer's tops, counted from the end: before the spatial axes."""
    return 1 - len(weight.shape)


def _give_unit_variance(net: Any, layers: Sequence[_Layer], finished: Iterator[None], seed: int) -> dict[int, _Scaling]:
    """Run the net once, up to the last of ``layers``, scaling each on the way: how, by their index.

    ``finished`` yields, in turn, once the orthonormal weights of the next layer are written. Of what stands behind
    the last one only the data layers run, lest they fall a batch behind the others.
    """
    import caffe

    scalings = {}
    linear = {layer.index: layer for layer in layers}
    end = layers[-1].index + 1 if layers else 0
    weights = {_memory(layer.weight) for layer in layers}
    # BatchNorm counts every forward pass of phase TRAIN into its statistics. This one is no part of training. Of what
    # a layer shares with an initialised one, this is not the time for a copy.
    untouched = [
        (blob, blob.data.copy())
        for index in range(end)
        for blob in net.layers[index].blobs
        if index not in linear and _memory(blob) not in weights
    ]
    caffe.set_random_seed(seed)  # for the masks of Dropout
    for index in range(end):
        layer = linear.get(index)
        if layer is None:
            net._forward(index, index)
            continue
        next(finished)
        net._forward(index, index)
        before, scale = _unit_variance_scale(layer)
        layer.weight.data[...] *= np.float32(scale)
        net._forward(index, index)
        _, after = _moments([top.data for top in layer.tops])
        if not abs(after - 1) <= TOLERANCE:
            raise layer.refusal(f"has variance {after:.4g} after scaling: use smaller biases, these drown it")
        scalings[index] = _Scaling(before, after, scale)
    for index in range(end, len(net.layers)):
        if not len(net._bottom_ids(index)):
            net._forward(index, index)
    for blob, data in untouched:
        blob.data[...] = data
    return scalings


def _unit_variance_scale(layer: _Layer) -> tuple[float, float]:
    """The variance of a layer's tops, and the scale of its weights that makes it one. Overwrites the tops.

    With W x = y and bias b the output is s y + b, whose variance s² var(y) + 2 s cov(y, b) + var(b) is to be one.
    For a bias that is the same for all channels, zero as a rule, this is s = 1 / sqrt(var(y)).
    """
    tops: list[FloatArray] = [top.data for top in layer.tops]
    mean, before = _moments(tops)
    variance = before
    bias = np.zeros(1, np.float32) if layer.bias is None else layer.bias.data
    bias = bias.reshape(-1, *[1] * (-_channel_axis(layer.weight) - 1))
    if bias.any():
        for top in tops:
            top -= bias
        mean, variance = _moments(tops)
    # A constant output has a variance of some rounding errors, not always zero.
    if not (math.isfinite(variance) and math.sqrt(variance) > 1e-6 * abs(mean)):
        raise layer.refusal(
            f"has variance {variance:.4g} on the batch, so no scale gives it 1: look for constant data, a wrong "
            "mean or scale of the data, or a dead layer before it"
        )
    # Both zero, exactly, where all channels have the same bias.
    offset = float(bias.var(dtype=np.float64))
    shared = 0.0
    if offset:
        sums = sum(float((top.sum(axis=0, dtype=np.float64, keepdims=True) * bias).sum()) for top in tops)
        shared = sums / sum(top.size for top in tops) - mean * float(bias.mean(dtype=np.float64))
    root = shared**2 - variance * (offset - 1)
    scale = (math.sqrt(root) - shared) / variance if root >= 0 else 0.0
    if not scale > 0:
        raise layer.refusal(
            f"has biases of variance {offset:.4g}, so no scale of its weights gives 1: use smaller ones"
        )
    return before, scale


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is the caller's to refuse, not to warn of
def _moments(arrays: Sequence[FloatArray]) -> tuple[float, float]:
    """Mean and variance of all elements of all ``arrays``, in pieces that stay in the cache, summed in double."""
    size = 1 << 16
    flat = [array.reshape(-1) for array in arrays]
    pieces = [array[i : i + size] for array in flat for i in range(0, array.size, size)]
    count = sum(array.size for array in flat)
    mean = sum(float(piece.sum()) for piece in pieces) / count
    centred = (piece - np.float32(mean) for piece in pieces)
    return mean, sum(float(piece @ piece) for piece in centred) / count
