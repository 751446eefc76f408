"""What each message of a layer or solver says to Caffe, whatever its spelling: defaults in, dead fields out.

Facts are from ``src/caffe/proto/caffe.proto``, ``filler.hpp`` and ``layers/*.cpp`` of BVLC Caffe 1.0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["FORMS", "FieldValues", "message_settings", "pair", "written"]

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
_GEOMETRY = (("kernel_size", "kernel", 0), ("pad", "pad", 0), ("stride", "stride", 1))


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


def pair(message: Any, name: str, stem: str, default: int) -> tuple[int, ...]:
    """Height and width of a kernel, pad or stride, however they were given; more axes as they are."""
    sides = [f"{stem}_h", f"{stem}_w"]
    if any(message.HasField(side) and (stem != "stride" or getattr(message, side)) for side in sides):
        return getattr(message, sides[0]), getattr(message, sides[1])
    value = getattr(message, name)
    values = tuple(value) if not isinstance(value, int) else (value,)
    if not values or (isinstance(value, int) and not message.HasField(name)):
        values = (default,)
    return values * 2 if len(values) == 1 else values


def _convolution(message: Any, prefix: str) -> FieldValues:
    settings = message_settings(message, prefix)
    for name, stem, default in _GEOMETRY:
        for one in (name, f"{stem}_h", f"{stem}_w"):
            settings.pop(prefix + one, None)
        settings[prefix + name] = pair(message, name, stem, default)
    dilation = tuple(message.dilation) or (1,)
    settings[prefix + "dilation"] = dilation * 2 if len(dilation) == 1 else dilation
    return _without_bias(settings, message, prefix)


def _pooling(message: Any, prefix: str) -> FieldValues:
    settings = message_settings(message, prefix)
    for name, stem, default in _GEOMETRY:
        for one in (name, f"{stem}_h", f"{stem}_w"):
            settings.pop(prefix + one, None)
        if not (message.global_pooling and stem == "kernel"):
            settings[prefix + name] = pair(message, name, stem, default)
    return settings


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
        if name.removeprefix(prefix) not in _DATA_WITHOUT_EFFECT
    }


def _transform(message: Any, prefix: str) -> FieldValues:
    settings = message_settings(message, prefix)
    values = tuple(message.mean_value)
    if len(set(values)) == 1:  # one value stands for every channel
        settings[prefix + "mean_value"] = values[:1]
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


def _dummy(message: Any, prefix: str) -> FieldValues:
    settings = message_settings(message, prefix)
    shapes = [tuple(shape.dim) for shape in message.shape]
    old = [tuple(settings.pop(prefix + name)) for name in ("num", "channels", "height", "width")]
    settings[prefix + "shape"] = tuple(shapes or zip(*old, strict=False))
    return settings


FORMS: Mapping[str, Callable[[Any, str], FieldValues]] = {
    "accuracy_param": _accuracy,
    "concat_param": _axis,
    "convolution_param": _convolution,
    "data_param": _data,
    "dummy_data_param": _dummy,
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
