"""Rules on single layers: what Caffe stops at when it builds the net, in the words of ``src/caffe/layers/``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from caffebench.common.caffe_facts import FILLERS
from caffebench.generator.lint.facts import known_layers, nearest
from caffebench.generator.lint.registry import Hit, of_layer, rule
from caffebench.generator.meaning import (
    LAYER_TYPES,
    Layer,
    PhaseNet,
    Prototxt,
    parameter_count,
    said_twice,
    spoils,
    spoils_itself,
)

_ANY = 1 << 30
# Bottoms and tops, fewest and most, of the types for which Caffe counts them.
_BLOBS: dict[str, tuple[int, int, int, int]] = {
    "Accuracy": (2, 2, 1, 2),
    "BatchReindex": (2, 2, 1, 1),
    "Concat": (1, _ANY, 1, 1),
    "ContrastiveLoss": (3, 3, 1, 1),
    "Crop": (2, 2, 1, 1),
    "Eltwise": (2, _ANY, 1, 1),
    "Embed": (1, 1, 1, 1),
    "EuclideanLoss": (2, 2, 1, 1),
    "HingeLoss": (2, 2, 1, 1),
    "InfogainLoss": (2, 3, 1, 2),
    "MultinomialLogisticLoss": (2, 2, 1, 1),
    "Pooling": (1, 1, 1, 2),
    "SigmoidCrossEntropyLoss": (2, 2, 1, 1),
    "Slice": (1, 1, 1, _ANY),
    "SoftmaxWithLoss": (2, 2, 1, 2),
    "Data": (0, 0, 1, 2),
    "ImageData": (0, 0, 2, 2),
    "MemoryData": (0, 0, 2, 2),
    "WindowData": (0, 0, 2, 2),
    "HDF5Data": (0, 0, 1, _ANY),
    "Input": (0, 0, 1, _ANY),
    "DummyData": (0, 0, 1, _ANY),
    "Scale": (1, 2, 1, 1),
    "Bias": (1, 2, 1, 1),
} | dict.fromkeys(
    (
        "AbsVal",
        "ArgMax",
        "BNLL",
        "BatchNorm",
        "Clip",
        "Dropout",
        "ELU",
        "Exp",
        "Flatten",
        "Im2col",
        "InnerProduct",
        "LRN",
        "Log",
        "MVN",
        "PReLU",
        "Power",
        "ReLU",
        "Reduction",
        "Reshape",
        "SPP",
        "Sigmoid",
        "Softmax",
        "Swish",
        "TanH",
        "Threshold",
        "Tile",
    ),
    (1, 1, 1, 1),
)
# Layers that compute from a bottom which they have already overwritten, or change its shape under themselves.
_NEVER_IN_PLACE = {"Convolution", "Deconvolution", "InnerProduct", "Pooling", "LRN", "Im2col", "Embed", "Tile", "Crop"}
_NO_GRADIENT = "the gradient is wrong: in its backward pass the layer reads what it has written over"
_REFUSED_IN_PLACE = {"Reshape", "Flatten", "AbsVal"}


def _fillers(layer: Layer) -> Iterator[tuple[str, Any]]:
    """Every filler that is written in the messages a layer reads, with its dotted path."""
    for name in LAYER_TYPES.get(layer.type, ()):
        message = getattr(layer.message, name)
        for descriptor, value in message.ListFields():
            if descriptor.message_type is not None and descriptor.message_type.name == "FillerParameter":
                for one in [value] if hasattr(value, "ListFields") else value:
                    yield f"{name}.{descriptor.name}", one


@rule("filler-type", "error", why="Caffe stops when it fills the layer's weights: 'Unknown filler name'")
def filler_type(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A filler that Caffe does not have; upper and lower case count."""
    for layer in known_layers(file):
        for path, filler in _fillers(layer):
            if filler.type not in FILLERS:
                fix = f'type: "{nearest(filler.type, FILLERS)}"'
                yield of_layer(layer, f"{path} of type {filler.type!r}", fix, f"{path}.type")


def _lacking(layer: Layer) -> Iterator[tuple[str, str]]:
    """(message, field) that a layer needs and has not."""
    message = layer.message
    if layer.type in ("Convolution", "Deconvolution", "InnerProduct", "Embed", "RNN", "LSTM"):
        name = {"InnerProduct": "inner_product_param", "Embed": "embed_param"}.get(layer.type, "convolution_param")
        name = "recurrent_param" if layer.type in ("RNN", "LSTM") else name
        if not getattr(message, name).num_output:
            yield name, "num_output"
    if layer.type == "Embed" and not message.embed_param.input_dim:
        yield "embed_param", "input_dim"
    if layer.type in ("Convolution", "Deconvolution", "Im2col"):
        inner = message.convolution_param
        if not any(inner.kernel_size) and not (inner.kernel_h and inner.kernel_w):
            yield "convolution_param", "kernel_size"
    if layer.type == "Pooling":
        pool = message.pooling_param
        if not pool.global_pooling and not pool.kernel_size and not (pool.kernel_h and pool.kernel_w):
            yield "pooling_param", "kernel_size"
    for kind, name in (("Data", "data_param"), ("ImageData", "image_data_param"), ("HDF5Data", "hdf5_data_param")):
        if layer.type == kind:
            inner = getattr(message, name)
            yield from ((name, field) for field in ("source", "batch_size") if not inner.HasField(field))
    if layer.type == "Input" and not message.input_param.shape:
        yield "input_param", "shape"
    if layer.type == "Python":
        yield from (("python_param", one) for one in ("module", "layer") if not getattr(message.python_param, one))


@rule("missing-setting", "error", why="Caffe stops when it sets the layer up: it has no default for this")
def missing_setting(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A layer lacks what it cannot do without: ``num_output``, ``kernel_size``, ``source``, ``batch_size``, ..."""
    for layer in known_layers(file):
        for name, setting in _lacking(layer):
            kind = "HDF5Data would read 0 images" if layer.type == "HDF5Data" and setting == "batch_size" else ""
            what = f"no {name}.{setting}"
            yield of_layer(layer, what, f"{name} {{ {setting}: ... }}", name, why=kind and f"Caffe stops: {kind}")


@rule("wrong-value", "error", why="Caffe stops when it sets the layer up: the value is outside of what it can do")
def wrong_value(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A value that Caffe refuses: a ``group`` that does not divide ``num_output``, an even ``local_size``, ..."""
    for layer in known_layers(file):
        message = layer.message
        if layer.type in ("Convolution", "Deconvolution"):
            inner = message.convolution_param
            if inner.group < 1 or inner.num_output % inner.group:
                what = f"num_output {inner.num_output} is not a multiple of group {inner.group}"
                yield of_layer(layer, what, "a num_output that group divides", "convolution_param.group")
        if layer.type in ("Convolution", "Deconvolution", "Im2col", "Pooling"):
            name = "pooling_param" if layer.type == "Pooling" else "convolution_param"
            inner = getattr(message, name)
            size = inner.HasField("kernel_size") if name == "pooling_param" else bool(inner.kernel_size)
            for stem in said_twice(inner):
                field = "kernel_size" if stem == "kernel" else stem
                what = f"{field} and {stem}_h or {stem}_w at once"
                yield of_layer(layer, what, "keep one of them", f"{name}.{field}")
            if name == "pooling_param" and inner.global_pooling and (size or inner.HasField("kernel_h")):
                what = "global_pooling with a kernel size"
                yield of_layer(layer, what, "leave the kernel size out", f"{name}.global_pooling")
        if layer.type == "LRN" and not message.lrn_param.local_size % 2:
            what = f"local_size {message.lrn_param.local_size} is even"
            yield of_layer(layer, what, "an odd local_size", "lrn_param.local_size")
        if message.include and message.exclude:
            yield of_layer(layer, "include and exclude at once", "keep one of them", "exclude")
        transform = message.transform_param
        if transform.HasField("mean_file") and transform.mean_value:
            what = "mean_file and mean_value at once"
            yield of_layer(layer, what, "keep one of them", "transform_param.mean_file")
        for field, kept in (("loss_weight", message.top), ("propagate_down", message.bottom)):
            count = len(getattr(message, field))
            if count and count != len(kept):
                side = "tops" if kept is message.top else "bottoms"
                what = f"{field} is given {count} times, the layer has {len(kept)} {side}"
                yield of_layer(layer, what, f"one {field} for each of the {side}", field)
        if layer.type == "Accuracy" and message.accuracy_param.top_k < 1:
            yield of_layer(layer, "top_k below 1", "top_k: 1", "accuracy_param.top_k")
        if layer.type == "Slice" and message.slice_param.slice_point:
            points = list(message.slice_param.slice_point)
            if len(points) != len(message.top) - 1 or points != sorted(set(points)):
                what = f"slice_point {' '.join(map(str, points))} for {len(message.top)} tops"
                yield of_layer(layer, what, "one slice_point fewer than tops, ascending", "slice_param.slice_point")
        if layer.type == "Eltwise" and 0 < len(message.eltwise_param.coeff) != len(message.bottom):
            what = f"{len(message.eltwise_param.coeff)} coeff for {len(message.bottom)} bottoms"
            yield of_layer(layer, what, "one coeff for each bottom", "eltwise_param.coeff")


@rule("blob-count", "error", why="Caffe stops when it sets the layer up: it counts the layer's bottoms and tops")
def blob_count(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A layer with more or fewer bottoms or tops than its type takes."""
    for layer in known_layers(file):
        if layer.type not in _BLOBS:
            continue
        few_bottoms, most_bottoms, few_tops, most_tops = _BLOBS[layer.type]
        automatic = layer.type.endswith("Loss")  # Caffe names the top of a loss itself
        for side, blobs, few, most in (
            ("bottom", layer.message.bottom, few_bottoms, most_bottoms),
            ("top", layer.message.top, 0 if automatic else few_tops, most_tops),
        ):
            if not few <= len(blobs) <= most:
                wanted = f"{few}" if few == most else (f"at least {few}" if most == _ANY else f"{few} to {most}")
                what = f"{len(blobs)} {side}s, {layer.type} takes {wanted}"
                yield of_layer(layer, what, f"correct the {side}s, or the type", side if blobs else "")


@rule("param-count", "error", why="Caffe stops when it builds the net: 'Too many params specified for layer'")
def param_count(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """More ``param`` messages than the layer has parameter blobs."""
    for layer in known_layers(file):
        count, given = parameter_count(layer.message), len(layer.message.param)
        if count is not None and given > count:
            what = f"{given} param for {count} parameter blob{'s' if count != 1 else ''} of {layer.type}"
            yield of_layer(layer, what, f"keep {count}" if count else "delete param", "param")


@rule("shared-shape", "error", why="Caffe stops when it builds the net: 'Cannot share param', the shapes differ")
def shared_shape(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Layers that share a parameter by its name and give it different shapes."""
    for net in file.phases:
        owners: dict[str, tuple[Layer, tuple[Any, ...]]] = {}
        for layer in net.layers:
            for index, spec in enumerate(layer.message.param):
                shape = _own_shape(layer, index)
                if not spec.name or shape is None:
                    continue
                owner, expected = owners.setdefault(spec.name, (layer, shape))
                if shape != expected and not spec.share_mode:
                    what = f"param {spec.name!r} is {_words(shape)}, {owner.name} has it as {_words(expected)}"
                    yield of_layer(layer, what, "the same settings in both, or a name of its own", "param")


def _own_shape(layer: Layer, index: int) -> tuple[Any, ...] | None:
    """What a layer's settings alone say of the shape of a parameter: outputs and kernel; None for nothing."""
    if layer.type in ("Convolution", "Deconvolution"):
        inner = layer.message.convolution_param
        kernel = tuple(inner.kernel_size) or (inner.kernel_h, inner.kernel_w)
        return (inner.num_output,) if index else (inner.num_output, inner.group, *(kernel * 2)[:2])
    if layer.type == "InnerProduct":
        inner = layer.message.inner_product_param
        return (inner.num_output,) if index else (inner.num_output, inner.transpose)
    return None


def _words(shape: tuple[Any, ...]) -> str:
    return f"{shape[0]} outputs" + (f" of kernel {shape[2]} x {shape[3]}" if len(shape) == 4 else "")


@rule("in-place-split", "error", why="Caffe stops when it builds the net: 'Top blob produced by multiple sources'")
def in_place_split(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """An in-place layer on a top that others read too: Caffe gives each reader a copy, so it is in place no more."""
    for net in file.phases:
        for layer, blob, others in _split_in_place(net):
            what = (
                f"works in place on {blob!r}, which {' and '.join(others)} also read{'s' if len(others) == 1 else ''}"
            )
            fix = f"a top of its own for this layer; later layers read that instead of {blob!r}"
            yield of_layer(layer, what, fix, "top")


def _split_in_place(net: PhaseNet) -> Iterator[tuple[Layer, str, list[str]]]:
    readers: dict[tuple[str, int], list[Layer]] = defaultdict(list)
    version: dict[str, int] = defaultdict(int)
    in_place: list[tuple[Layer, str, int]] = []
    for layer in net.layers:
        bottoms = list(layer.message.bottom)
        for bottom in bottoms:
            readers[bottom, version[bottom]].append(layer)
        for index, top in enumerate(layer.message.top):
            if index < len(bottoms) and bottoms[index] == top:
                in_place.append((layer, top, version[top]))
            version[top] += 1
    for layer, blob, number in in_place:
        others = list(dict.fromkeys(one.name for one in readers[blob, number] if one is not layer))
        if others:
            yield layer, blob, others


@rule("in-place", "warning", why="the layer overwrites what it still has to read: its results and gradients are wrong")
def in_place(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A layer that cannot work in place (convolution, pooling, LRN, Clip, ...) has its bottom as its top."""
    for layer in known_layers(file):
        for blob in set(layer.message.top) & set(layer.message.bottom):
            refused = layer.type in _REFUSED_IN_PLACE
            itself = not refused and spoils_itself(layer.message)
            if layer.type in _NEVER_IN_PLACE or refused or itself:
                yield of_layer(
                    layer,
                    f"{layer.type} in place on {blob!r}",
                    f'top: "{layer.name}", a top of its own',
                    "top",
                    severity="error" if refused else None,
                    why=f"Caffe stops: {layer.type} does not work in place" if refused else _NO_GRADIENT * itself,
                )


@rule("in-place-before", "warning", why="that layer reads it in its backward pass: the gradients below are wrong")
def in_place_before(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """An in-place layer writes over what a layer before it still needs: BatchNorm over a ReLU, dropout over a TanH."""
    for net in file.phases:
        if net.phase != "TRAIN":
            continue
        wrote: dict[str, list[Layer]] = {}  # who wrote under a name, since it was last made anew
        for layer in net.layers:
            for top in layer.message.top:
                if top not in layer.message.bottom:
                    wrote[top] = [layer]
                    continue
                for before in wrote.get(top, ()):
                    if spoils(layer.message, before.message):
                        what = f"{layer.type} in place on {top!r}, which {before.name} ({before.type}) wrote"
                        yield of_layer(layer, what, f'top: "{layer.name}", a top of its own', "top")
                        break
                wrote.setdefault(top, []).append(layer)
