"""What each message of a layer or solver says to Caffe, whatever its spelling: defaults in, dead fields out.

Facts are from ``src/caffe/proto/caffe.proto``, ``filler.hpp`` and ``layers/*.cpp`` of BVLC Caffe 1.0.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["FORMS", "FieldValues", "given_shapes", "message_settings", "said_twice", "spread", "written"]

FieldValues = dict[str, Any]

_PATHS = {"source", "mean_file", "root_folder", "file_name", "weights"}
_FILLER_READS: Mapping[str, tuple[str, ...]] = {
    "constant": ("value",),
    "uniform": ("min", "max"),
    "gaussian": ("mean", "std", "sparse"),
    "positive_unitball": (),
    "xavier": ("variance_norm",),
    "msra": ("variance_norm",),
    "bilinear": (),
}
_FILLER_FIELDS = ("value", "min", "max", "mean", "std", "sparse", "variance_norm")
# Read from transform_param only: in a data message of today's layers these have no effect.
_DATA_WITHOUT_EFFECT = {"scale", "mean_file", "crop_size", "mirror"}
_WINDOW_SCALE = "window_data_param.scale"  # but window_data_layer.cpp reads this one here, and here only
_GEOMETRY = ("kernel", "pad", "stride")


def written(value: Any) -> str:
    """A value as a prototxt would have it: a float in the fewest digits that say which float32 it is."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        for digits in range(6, 10):
            text = f"{value:.{digits}g}"
            if struct.pack("f", float(text)) == struct.pack("f", value):
                break
        return text
    if isinstance(value, tuple):
        return " ".join(written(one) for one in value) if value else "none"
    if value is None:
        return "none"
    return str(value)


def message_settings(message: Any, prefix: str) -> FieldValues:
    """Every field of a message with its value or default; enums by name, paths only as given or not."""
    settings: FieldValues = {}
    for descriptor in message.DESCRIPTOR.fields:
        name, value = descriptor.name, getattr(message, descriptor.name)
        repeated = not isinstance(value, (int, float, str, bytes, bool)) and not hasattr(value, "DESCRIPTOR")
        if name in _PATHS:
            if name in ("mean_file", "weights") and value:
                settings[prefix + name] = "given"
        elif descriptor.message_type is not None and descriptor.message_type.name == "FillerParameter":
            settings[prefix + name] = tuple(map(_filler, value)) if repeated else _filler(value)
        elif descriptor.message_type is not None:
            inner = value if repeated else ([value] if message.HasField(name) else [])
            if inner:
                settings[prefix + name] = tuple(" ".join(str(one).split()) for one in inner)
        elif descriptor.enum_type is not None:
            settings[prefix + name] = descriptor.enum_type.values_by_number[value].name
        else:
            settings[prefix + name] = tuple(map(_single, value)) if repeated else _single(value)
    return settings


def _single(value: Any) -> Any:
    """A number as the float32 that Caffe computes with; one that is none as text, which equals itself."""
    if not isinstance(value, float):
        return value
    return struct.unpack("f", struct.pack("f", value))[0] if value == value else "nan"


def _filler(message: Any) -> str:
    """A ``FillerParameter`` in one line, with only what its type reads."""
    fields = _FILLER_READS.get(message.type, _FILLER_FIELDS)
    parts = []
    for name in fields:
        value = getattr(message, name)
        if name == "variance_norm":
            value = type(message).VarianceNorm.Name(value)
        if not (name in ("sparse", "mean") and value == message.DESCRIPTOR.fields_by_name[name].default_value):
            parts.append(f" {name} {written(value)}")
    return str(message.type) + "".join(parts)


def spread(message: Any, stem: str, axes: int = 2) -> tuple[int, ...]:
    """A ``kernel``, ``pad``, ``stride`` or ``dilation`` for each axis of the pixels, however it was given.

    One that is given for another number of axes is returned as it is.
    """
    name, default = ("kernel_size", 0) if stem == "kernel" else (stem, int(stem != "pad"))
    sides = [f"{stem}_h", f"{stem}_w"]
    if any(_says(message, side) and (stem != "stride" or getattr(message, side)) for side in sides):
        return getattr(message, sides[0]), getattr(message, sides[1])
    value = getattr(message, name)
    values = tuple(value) if not isinstance(value, int) else (value,) if message.HasField(name) else ()
    return (values or (default,)) * axes if len(values) < 2 else values


def said_twice(message: Any) -> list[str]:
    """Those of ``kernel``, ``pad`` and ``stride`` that are given in both ways at once, which Caffe refuses."""
    return [
        stem
        for stem in _GEOMETRY
        if _says(message, "kernel_size" if stem == "kernel" else stem)
        and (_says(message, f"{stem}_h") or _says(message, f"{stem}_w"))
    ]


def _says(message: Any, name: str) -> bool:
    field = message.DESCRIPTOR.fields_by_name.get(name)
    return field is not None and any(one.name == name for one, _ in message.ListFields())


def _convolution(message: Any, prefix: str) -> FieldValues:
    settings = message_settings(message, prefix)
    _geometry(settings, message, prefix)
    settings[prefix + "dilation"] = _alike(spread(message, "dilation"))
    return _without_bias(settings, message, prefix)


def _pooling(message: Any, prefix: str) -> FieldValues:
    settings = message_settings(message, prefix)
    _geometry(settings, message, prefix)
    if message.global_pooling:
        settings.pop(prefix + "kernel_size")
    return settings


def _geometry(settings: FieldValues, message: Any, prefix: str) -> None:
    """One spelling for kernel, pad and stride; what Caffe refuses stays as it was written."""
    twice = said_twice(message)
    for stem in _GEOMETRY:
        name = "kernel_size" if stem == "kernel" else stem
        as_written = [settings.pop(prefix + one) for one in (name, f"{stem}_h", f"{stem}_w")]
        if stem in twice:
            settings[f"{prefix}{name} (given twice)"] = " and ".join(map(written, as_written))
        else:
            settings[prefix + name] = _alike(spread(message, stem))


def _alike(values: tuple[int, ...]) -> tuple[int, ...]:
    """One value for all axes in one way, for however many axes it was written."""
    return values[:1] * 2 if len(set(values)) == 1 else values


def _without_bias(settings: FieldValues, message: Any, prefix: str) -> FieldValues:
    if not message.bias_term:
        settings.pop(prefix + "bias_filler", None)
    return settings


def _affine(message: Any, prefix: str) -> FieldValues:
    return _without_bias(message_settings(message, prefix), message, prefix)


def _scale(message: Any, prefix: str) -> FieldValues:
    settings = _affine(message, prefix)
    if not message.HasField("filler"):
        settings[prefix + "filler"] = "constant value 1"
    return settings


def _prelu(message: Any, prefix: str) -> FieldValues:
    settings = message_settings(message, prefix)
    if not message.HasField("filler"):
        settings[prefix + "filler"] = "constant value 0.25"
    return settings


def _data(message: Any, prefix: str) -> FieldValues:
    return {
        name: value
        for name, value in message_settings(message, prefix).items()
        if name.removeprefix(prefix) not in _DATA_WITHOUT_EFFECT or name == _WINDOW_SCALE
    }


def _transform(message: Any, prefix: str) -> FieldValues:
    settings = message_settings(message, prefix)
    values = tuple(message.mean_value)
    if len(set(values)) == 1:  # one value stands for every channel
        settings[prefix + "mean_value"] = values[:1]
    return settings


def _crop(message: Any, prefix: str) -> FieldValues:
    settings = message_settings(message, prefix)
    offsets = tuple(message.offset) or (0,)
    settings[prefix + "offset"] = offsets[:1] if len(set(offsets)) == 1 else offsets  # one stands for every axis
    return settings


def _axis(message: Any, prefix: str) -> FieldValues:
    settings = message_settings(message, prefix)
    for old in ("concat_dim", "slice_dim"):
        value = settings.pop(prefix + old, None)
        if value is not None and message.HasField(old):
            settings[prefix + "axis"] = value
    return settings


def _eltwise(message: Any, prefix: str) -> FieldValues:
    settings = message_settings(message, prefix)
    if settings[prefix + "operation"] != "SUM" or set(message.coeff) <= {1.0}:
        settings.pop(prefix + "coeff")
    if settings[prefix + "operation"] != "PROD":
        settings.pop(prefix + "stable_prod_grad")
    return settings


def _loss(message: Any, prefix: str) -> FieldValues:
    settings = message_settings(message, prefix)
    settings.pop(prefix + "normalize")
    if not message.HasField("normalization") and message.HasField("normalize"):
        settings[prefix + "normalization"] = "VALID" if message.normalize else "BATCH_SIZE"
    return _ignored_label(settings, message, prefix)


def _ignored_label(settings: FieldValues, message: Any, prefix: str) -> FieldValues:
    if not message.HasField("ignore_label"):
        settings[prefix + "ignore_label"] = None
    return settings


def _accuracy(message: Any, prefix: str) -> FieldValues:
    return _ignored_label(message_settings(message, prefix), message, prefix)


def given_shapes(layer: Any) -> list[tuple[int, ...]]:
    """The shapes that an ``Input`` or ``DummyData`` layer says, one for each top."""
    p, tops = layer.input_param if layer.type == "Input" else layer.dummy_data_param, len(layer.top)
    shapes = [tuple(shape.dim) for shape in p.shape]
    if not shapes and layer.type == "DummyData":
        old = [[*side] * (tops if len(side) == 1 else 1) for side in (p.num, p.channels, p.height, p.width)]
        shapes = list(itertools.zip_longest(*old, fillvalue=0))
    return shapes * tops if len(shapes) == 1 else shapes


FORMS: Mapping[str, Callable[[Any, str], FieldValues]] = {
    "accuracy_param": _accuracy,
    "concat_param": _axis,
    "convolution_param": _convolution,
    "crop_param": _crop,
    "data_param": _data,
    "eltwise_param": _eltwise,
    "embed_param": _affine,
    "image_data_param": _data,
    "inner_product_param": _affine,
    "loss_param": _loss,
    "pooling_param": _pooling,
    "prelu_param": _prelu,
    "scale_param": _scale,
    "slice_param": _axis,
    "transform_param": _transform,
    "window_data_param": _data,
}
