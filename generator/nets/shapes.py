"""The shapes of a net's blobs, worked out without Caffe: batch, channels and pixels behind every layer.

Formulas are those of ``Reshape`` in ``src/caffe/layers/*.cpp`` of BVLC Caffe 1.0. A shape that cannot be known (the
data are not at hand, a layer of a fork) is None, and so is what follows from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from caffebench.common.caffe_facts import DATA_LAYERS
from caffebench.common.errors import InputError
from caffebench.generator.meaning.forms import given_shapes
from caffebench.generator.nets.kernels import Shape, axis_of, convolution, im2col, misfit, pooling, pyramid, words

__all__ = ["LayerShapes", "Shape", "data_shape", "infer", "record_shape"]

_LOSSES = {"SoftmaxWithLoss", "EuclideanLoss", "SigmoidCrossEntropyLoss", "HingeLoss", "ContrastiveLoss"}
_LOSSES |= {"InfogainLoss", "MultinomialLogisticLoss", "Accuracy"}


@dataclass(frozen=True)
class LayerShapes:
    """A layer with the shapes of its bottoms and tops, None where one is not known."""

    layer: Any
    bottoms: list[Shape | None]
    tops: list[Shape | None]


def infer(layers: Sequence[Any], data: Mapping[str, Sequence[int]] | None = None) -> list[LayerShapes]:
    """The shapes of every layer of a net of one phase.

    ``data`` gives (channels, height, width) of the pictures by the data layer's name, for what `data_shape` cannot
    know. Raises ``InputError`` with the layer where a shape cannot be: a kernel larger than what it is moved over,
    summands of different sizes, groups that do not divide the channels.
    """
    known: dict[str, Shape | None] = {}
    found = []
    for layer in layers:
        bottoms = [known.get(name) for name in layer.bottom]
        try:
            tops = _tops(layer, bottoms, (data or {}).get(layer.name))
        except (IndexError, ZeroDivisionError, ValueError) as error:
            raise InputError(f"layer {layer.name} ({layer.type}): its bottom does not fit it ({error})") from error
        tops = (tops + [None] * len(layer.top))[: len(layer.top)]
        for name, shape in zip(layer.top, tops, strict=True):
            if shape is not None and min(shape, default=1) < 1:
                raise misfit(layer, f"what it makes would have {words(shape)} values")
            known[name] = shape
        found.append(LayerShapes(layer, bottoms, tops))
    return found


def record_shape(source: str) -> Shape | None:
    """(channels, height, width) of the first record of an LMDB, None if there is none that can be read."""
    if not Path(source, "data.mdb").is_file():
        return None
    import lmdb

    from caffebench.engine.messages import caffe_messages

    try:
        with lmdb.open(source, readonly=True, lock=False, subdir=True) as database, database.begin() as reading:
            datum = caffe_messages().Datum.FromString(next(iter(reading.cursor()))[1])
    except (lmdb.Error, StopIteration, ValueError, OSError):
        return None
    if datum.encoded:
        return None
    return datum.channels, datum.height, datum.width


def data_shape(layer: Any, record: Sequence[int] | None = None) -> Shape | None:
    """(batch, channels, height, width) of a layer that reads data, None where the pictures' size is not known.

    ``record`` is the stored size, where somebody knows it; else the layer's own database is asked.
    """
    crop, means = layer.transform_param.crop_size, layer.transform_param.mean_value
    if layer.type == "MemoryData":
        p = layer.memory_data_param
        return p.batch_size, p.channels, crop or p.height, crop or p.width
    if layer.type == "ImageData":
        p = layer.image_data_param
        height, width = crop or p.new_height, crop or p.new_width
        return (p.batch_size, 3 if p.is_color else 1, height, width) if height and width else None
    if layer.type == "WindowData":
        return layer.window_data_param.batch_size, 3, crop, crop
    if layer.type != "Data":
        return None
    sizes = list(record or record_shape(layer.data_param.source) or ())
    if not sizes and crop and (layer.transform_param.force_color or len(means) > 1):
        sizes = [3 if layer.transform_param.force_color else len(means), crop, crop]
    if len(sizes) != 3:
        return None
    if layer.transform_param.force_color:
        sizes[0] = 3
    if crop > min(sizes[1:]):
        raise misfit(layer, f"crop_size {crop} is larger than its pictures, {sizes[1]} x {sizes[2]}")
    return layer.data_param.batch_size, sizes[0], crop or sizes[1], crop or sizes[2]


def _tops(layer: Any, bottoms: list[Shape | None], record: Sequence[int] | None) -> list[Shape | None]:
    kind = layer.type
    if kind in DATA_LAYERS:
        shape = data_shape(layer, record)
        return [shape, *([(shape[0],)] * (len(layer.top) - 1) if shape else [])]
    if kind in ("Input", "DummyData"):
        return list(given_shapes(layer))
    if kind == "Parameter":
        return [tuple(layer.parameter_param.shape.dim)]
    if kind in _LOSSES:
        return [(), *_beside_loss(layer, bottoms[0])] if bottoms else [()]
    if not bottoms or any(shape is None for shape in bottoms):
        return []
    return _of_known(layer, [shape for shape in bottoms if shape is not None])


def _beside_loss(layer: Any, scores: Shape | None) -> list[Shape | None]:
    """The second top: the probabilities of a loss, an accuracy for each class."""
    if scores is None or layer.type not in ("SoftmaxWithLoss", "InfogainLoss", "Accuracy"):
        return []
    return [(scores[axis_of(layer.accuracy_param.axis, scores)],) if layer.type == "Accuracy" else scores]


def _of_known(layer: Any, bottoms: list[Shape]) -> list[Shape | None]:
    first, kind = bottoms[0], layer.type
    if kind in ("Convolution", "Deconvolution"):
        return [convolution(layer, shape) for shape in bottoms]
    if kind == "Im2col":
        return [im2col(layer, first)]
    if kind == "Pooling":
        return [pooling(layer, first)] * len(layer.top)
    if kind == "SPP":
        return [pyramid(layer, first)]
    if kind == "BatchReindex":
        return [(bottoms[1][0], *first[1:])]
    if kind in ("Scale", "Bias"):
        return [_scaled(layer, bottoms)]
    if kind == "InnerProduct":
        axis = axis_of(layer.inner_product_param.axis, first)
        return [(*first[:axis], layer.inner_product_param.num_output)]
    if kind == "Concat":
        return [_concat(layer, bottoms)]
    if kind == "Eltwise":
        if len(set(bottoms)) > 1:
            sizes = " and ".join(map(words, bottoms))
            raise misfit(layer, f"cannot combine blobs of different sizes, {sizes}")
        return [first]
    if kind == "Slice":
        return list(_slice(layer, first))
    if kind in ("Split", "LSTMUnit"):
        return [first] * len(layer.top)
    if kind == "Flatten":
        start, end = axis_of(layer.flatten_param.axis, first), axis_of(layer.flatten_param.end_axis, first)
        return [(*first[:start], prod(first[start : end + 1]), *first[end + 1 :])]
    if kind == "Reshape":
        return [_reshape(layer, first)]
    if kind == "Reduction":
        return [first[: axis_of(layer.reduction_param.axis, first)]]
    if kind == "Crop":
        axis = axis_of(layer.crop_param.axis, first)
        return [(*first[:axis], *bottoms[1][axis:])]
    if kind == "Tile":
        axis = axis_of(layer.tile_param.axis, first)
        return [(*first[:axis], first[axis] * layer.tile_param.tiles, *first[axis + 1 :])]
    if kind == "Embed":
        return [(*first, layer.embed_param.num_output)]
    if kind in ("LSTM", "RNN") and not layer.recurrent_param.expose_hidden:
        return [(*first[:2], layer.recurrent_param.num_output)]
    if kind == "ArgMax":
        return [_argmax(layer.argmax_param, first)]
    if kind in ("Silence", "HDF5Output"):
        return []
    if kind in ("ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "AbsVal", "BNLL", "Power", "Exp", "Log", "Swish", "Clip",
                "Dropout", "LRN", "BatchNorm", "Softmax", "MVN", "Threshold"):  # fmt: skip
        return [first]
    return []


def _argmax(p: Any, shape: Shape) -> Shape:
    if p.HasField("axis"):
        axis = axis_of(p.axis, shape)
        return (*shape[:axis], p.top_k, *shape[axis + 1 :])
    return (shape[0], 2 if p.out_max_val else 1, p.top_k, *(1,) * (len(shape) - 3))


def _scaled(layer: Any, bottoms: list[Shape]) -> Shape:
    """Of Scale and Bias: a second bottom must fit the first from ``axis`` on."""
    first, p = bottoms[0], layer.scale_param if layer.type == "Scale" else layer.bias_param
    for factors in bottoms[1:]:
        axis = axis_of(p.axis, first) if factors else 0
        if first[axis : axis + len(factors)] != factors:
            raise misfit(layer, f"its second bottom, {words(factors)}, does not fit {words(first)} from axis {axis}")
    return first


def _concat(layer: Any, bottoms: list[Shape]) -> Shape:
    p = layer.concat_param
    axis = axis_of(p.concat_dim if p.HasField("concat_dim") else p.axis, bottoms[0])
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in bottoms}
    if len(rest) > 1:
        raise misfit(layer, f"cannot put blobs of sizes {' and '.join(map(str, bottoms))} together")
    return (*bottoms[0][:axis], sum(shape[axis] for shape in bottoms), *bottoms[0][axis + 1 :])


def _slice(layer: Any, shape: Shape) -> list[Shape]:
    p = layer.slice_param
    axis = axis_of(p.slice_dim if p.HasField("slice_dim") else p.axis, shape)
    points = list(p.slice_point) or [shape[axis] * n // len(layer.top) for n in range(1, len(layer.top))]
    edges = [0, *points, shape[axis]]
    return [(*shape[:axis], b - a, *shape[axis + 1 :]) for a, b in itertools.pairwise(edges)]


def _reshape(layer: Any, shape: Shape) -> Shape:
    p = layer.reshape_param
    start = axis_of(p.axis, shape) if p.axis >= 0 else len(shape) + p.axis + 1
    end = len(shape) if p.num_axes == -1 else start + p.num_axes
    dims = [shape[start + n] if dim == 0 else dim for n, dim in enumerate(p.shape.dim)]
    whole = prod(shape[start:end])
    if -1 in dims:
        dims[dims.index(-1)] = whole // max(1, -prod(dims))
    if prod(dims) != whole:
        raise misfit(layer, f"cannot make {' x '.join(map(str, dims))} of {whole} values")
    return (*shape[:start], *dims, *shape[end:])
