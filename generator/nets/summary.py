"""What a net is made of: layers with their shapes, parameters and multiply-adds, and the memory of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from caffebench.common.caffe_facts import DATA_LAYERS, SOLVER_HISTORIES
from caffebench.common.errors import InputError
from caffebench.common.terminal import Column, table, wrapped
from caffebench.generator.meaning import LAYER_TYPES, PhaseNet, Prototxt, parameter_count
from caffebench.generator.nets.deploy import deployed_layers
from caffebench.generator.nets.kernels import axis_of, kernel_of
from caffebench.generator.nets.shapes import LayerShapes, Shape, infer
from caffebench.generator.nets.wiring import in_place

__all__ = ["Counts", "LayerCounts", "count", "summary", "training_bytes"]

_FLOAT = 4


@dataclass(frozen=True)
class LayerCounts:
    """One layer: learned parameters, BatchNorm's running statistics, and multiply-adds for one picture.

    Shapes and counts are None where the size of the data is not known.
    """

    name: str
    type: str
    shape: Shape | None
    parameters: int | None
    statistics: int
    multiply_adds: int | None


@dataclass(frozen=True)
class Counts:
    """A net's layers and their sums; None where one is not known."""

    layers: list[LayerCounts]

    @property
    def parameters(self) -> int | None:
        """Learned parameters; weights that layers share count once."""
        return _sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int | None:
        """Multiply-adds of convolutions and fully connected layers for one picture, biases not counted."""
        return _sum(layer.multiply_adds for layer in self.layers)


def _sum(values: Any) -> int | None:
    known = list(values)
    return None if None in known else sum(known)


def count(shapes: Sequence[LayerShapes]) -> Counts:
    """Count what the layers of a net have and do."""
    shared: set[str] = set()
    counted = []
    for one in shapes:
        sizes = _blob_sizes(one)
        owned: list[int] | None = None
        if sizes is not None:
            owned = []
            for number, size in enumerate(sizes):
                name = one.layer.param[number].name if number < len(one.layer.param) else ""
                owned += [size] if not name or name not in shared else []
                shared |= {name} if name else set()
        statistics = one.layer.type == "BatchNorm"
        learned = (0 if statistics else sum(owned)) if owned is not None else None
        shape = one.tops[0] if one.tops else None
        kept = sum(owned or ()) if statistics else 0
        counted.append(LayerCounts(one.layer.name, one.layer.type, shape, learned, kept, _multiply_adds(one, sizes)))
    return Counts(counted)


def training_bytes(shapes: Sequence[LayerShapes], solver_type: str) -> int | None:
    """The bytes of a training step: every blob and weight with its gradient, the solver's history, im2col's buffer."""
    blobs = 0
    weights = 0
    column = 0
    for one in shapes:
        sizes = _blob_sizes(one)
        if sizes is None or any(top is None for top in one.tops):
            return None
        weights += sum(sizes)
        if not in_place(one.layer) and one.layer.type not in ("Flatten", "Reshape"):  # these share their bottom's
            blobs += sum(prod(top) for top in one.tops if top is not None)
        if one.layer.type == "Convolution" and one.bottoms[0] is not None and one.tops[0] is not None:
            axis, kernel = kernel_of(one.layer, one.bottoms[0])
            if prod(kernel) != 1:
                column = max(column, one.bottoms[0][axis] * prod(kernel) * prod(one.tops[0][axis + 1 :]))
    return _FLOAT * (2 * blobs + (2 + SOLVER_HISTORIES.get(solver_type, 1)) * weights + column)


def summary(file: Prototxt) -> str:
    """A table of the layers, and the sums: of the training net, and of what is left of it for inference.

    Raises ``InputError`` where the file has no net, or a layer does not fit what it reads.
    """
    for name, node in file.missing:
        raise InputError(f"{file.path}:{node.line}: no net file {name}, from the working folder or beside it")
    net = file.phase("TRAIN") or file.phase("TEST")
    if net is None or not net.layers:
        raise InputError(f"{file.path} has no net")
    shapes = _shapes(file, net)
    counts = count(shapes)
    columns = [
        Column("layer", text=True),
        Column("type", text=True),
        Column("output", text=True),
        Column("parameters", rank=1),
        Column("multiply-adds", rank=2),
    ]
    rows = [
        (layer.name, layer.type, _shape(layer.shape), _number(layer.parameters), _number(layer.multiply_adds))
        for layer in counts.layers
    ]
    lines = [table(columns, rows)]
    statistics = sum(layer.statistics for layer in counts.layers)
    kept = f", and {statistics:,} running statistics" if statistics else ""
    lines.append(f"{net.name}: {_sums(counts)}{kept}")
    try:
        lines.append(f"for inference: {_sums(count(infer(deployed_layers(file, strict=False))))}")
    except InputError as error:
        lines.append(f"for inference: {error}")
    if file.solver is not None:
        size = training_bytes(shapes, file.solver.type)
        batch = next((shape[0] for one in shapes if not one.layer.bottom for shape in one.tops if shape), None)
        said = f"{size / 1e6:,.0f} MB at a batch of {batch}" if size is not None else "not known"
        lines.append(f"memory of a training step: {said}")
    if counts.parameters is None:
        lines.append(_unknown(shapes))
    return "\n".join([lines[0], *map(wrapped, lines[1:])])


def _unknown(shapes: Sequence[LayerShapes]) -> str:
    """Where what is not known begins."""
    for one in shapes:
        if one.layer.type in DATA_LAYERS and None in one.tops:
            break
        if None in one.tops and None not in one.bottoms:
            return f"? is not known: what layer {one.layer.name} ({one.layer.type}) makes, Caffe alone knows"
    return "? is not known without the size of the data: make them, or say crop_size and mean_value"


def _sums(counts: Counts) -> str:
    return f"{_number(counts.parameters)} parameters, {_number(counts.multiply_adds)} multiply-adds a picture"


def _shapes(file: Prototxt, net: PhaseNet) -> list[LayerShapes]:
    shape = file.header.get("shape")
    records = {layer.name: shape for layer in net.layers if layer.type == "Data"} if shape else {}
    return infer([layer.message for layer in net.layers], records)


def _shape(shape: Shape | None) -> str:
    return "?" if shape is None else " x ".join(map(str, shape)) or "1"


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _blob_sizes(one: LayerShapes) -> list[int] | None:
    """The sizes of a layer's parameter blobs, None where they depend on a shape that is not known."""
    layer, bottom = one.layer, one.bottoms[0] if one.bottoms else None
    kind = layer.type
    if kind == "Python" or kind not in LAYER_TYPES:
        return None
    if kind in ("LSTM", "RNN"):
        return _recurrent_sizes(one)
    if kind == "Embed":
        p = layer.embed_param
        return [p.input_dim * p.num_output, *([p.num_output] if p.bias_term else [])]
    if kind == "Parameter":
        return [prod(layer.parameter_param.shape.dim)]
    if kind not in ("Convolution", "Deconvolution", "InnerProduct", "BatchNorm", "Scale", "Bias", "PReLU"):
        return []
    if kind == "PReLU" and layer.prelu_param.channel_shared:
        return [1]
    if bottom is None:
        return None
    if kind in ("Convolution", "Deconvolution"):
        p = layer.convolution_param
        channels_axis, kernel = kernel_of(layer, bottom)
        weights = p.num_output * bottom[channels_axis] // p.group * prod(kernel)
        return [weights, *([p.num_output] if p.bias_term else [])]
    if kind == "InnerProduct":
        p = layer.inner_product_param
        return [p.num_output * prod(bottom[axis_of(p.axis, bottom) :]), *([p.num_output] if p.bias_term else [])]
    channels = bottom[1] if len(bottom) > 1 else 1
    if kind == "BatchNorm":
        return [channels, channels, 1]
    if kind == "PReLU":
        return [channels]
    return _scale_sizes(layer, bottom, one.bottoms[1:])


def _recurrent_sizes(one: LayerShapes) -> list[int] | None:
    """Of an LSTM its four gates, of an RNN its hidden state and output: from input, state and what all steps get."""
    outputs = one.layer.recurrent_param.num_output
    gates = 4 * outputs if one.layer.type == "LSTM" else outputs
    sizes = [gates, gates * outputs]
    static = one.bottoms[2:3] if parameter_count(one.layer) in (4, 6) else []
    for shape, axes in zip((*one.bottoms[:1], *static), (2, 1), strict=False):
        if shape is None:
            return None
        sizes.append(gates * prod(shape[axes:]))
    return sizes if one.layer.type == "LSTM" else [*sizes, outputs * outputs, outputs]


def _scale_sizes(layer: Any, bottom: Shape, factors: Sequence[Shape | None]) -> list[int] | None:
    """Factors and biases, of one size; factors that are a bottom are not the layer's own."""
    p = layer.scale_param if layer.type == "Scale" else layer.bias_param
    axis = axis_of(p.axis, bottom)
    shape = bottom[axis:] if p.num_axes == -1 else bottom[axis : axis + p.num_axes]
    if factors:
        if factors[0] is None:
            return None
        shape = factors[0]
    return [prod(shape)] * (parameter_count(layer) or 0)


def _multiply_adds(one: LayerShapes, sizes: list[int] | None) -> int | None:
    """Each weight is used once at each place that its layer is moved to, for every bottom, in one picture."""
    layer = one.layer
    if layer.type in ("LSTM", "RNN"):
        return None  # nobody counts them a picture
    if layer.type not in ("Convolution", "Deconvolution", "InnerProduct"):
        return 0
    moved = one.tops if layer.type == "Convolution" else one.bottoms
    if sizes is None:
        return None
    found = 0
    for shape in moved:
        if shape is None:
            return None
        flat = layer.type == "InnerProduct"
        axis = axis_of((layer.inner_product_param if flat else layer.convolution_param).axis, shape)
        found += sizes[0] * prod((*shape[1:axis], *(() if flat else shape[axis + 1 :])))
    return found
