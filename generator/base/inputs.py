"""The data side of a variant: batch size, crop, the size of what the net sees."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.base.draft import Draft, refuse
from caffebench.generator.base.userfile import READERS, batch_sizes
from caffebench.generator.nets.presence import PHASES, keep_to_phase
from caffebench.generator.nets.shapes import data_shape

__all__ = ["resize_pictures", "set_batch_size", "set_crop", "set_input_size", "transform_pictures"]

_CROPPED = {"Data", "ImageData", "WindowData", "MemoryData"}
_GIVEN = {"Input": "input_param", "DummyData": "dummy_data_param"}


def set_batch_size(draft: Draft, size: int) -> None:
    """The batch size of every layer that reads data in training; one that both phases share is made two.

    What stands beside the data (noise, constants) has a value for each picture where its first dimension is the old
    batch size. Raises ``InputError``.
    """
    wiring = draft.wiring
    layers = [one for one in wiring.layers if "TRAIN" in wiring.phases(one)]
    old = next((said for _, said in batch_sizes(layers)), 0)
    for layer in layers:
        if layer.type in READERS:
            getattr(_own(draft, layer), READERS[layer.type]).batch_size = size
        elif layer.type in _GIVEN and (places := _of_batch(draft, layer, old)):
            own = getattr(_own(draft, layer), _GIVEN[layer.type])
            for number in places:
                if own.shape:
                    own.shape[number].dim[0] = size
                else:
                    own.num[number] = size
        elif layer.type == "Reshape" and list(layer.reshape_param.shape.dim[:1]) == [old] != [size]:
            if not layer.reshape_param.axis:
                why = f"its dim: {old} is the batch size: write 0 in its place, which takes it from the bottom"
                raise refuse(layer, why)
        elif layer.type == "Python" and not layer.bottom:
            raise refuse(layer, "it says in its own code how large its batches are")


def _own(draft: Draft, layer: Any) -> Any:
    """``layer`` for TRAIN alone: where TEST reads through it too, TEST gets a copy."""
    wiring = draft.wiring
    if "TEST" not in wiring.phases(layer):
        return layer
    copies = []
    for phase in PHASES:
        copies.append(type(layer).FromString(layer.SerializeToString()))
        keep_to_phase(copies[-1], phase)
    wiring.replace(layer, copies)
    return copies[0]


def _of_batch(draft: Draft, layer: Any, batch: int) -> list[int]:
    """Which shapes of a layer begin with the batch size; a constant's that only happens to does not."""
    own = getattr(layer, _GIVEN[layer.type])
    firsts = [next(iter(shape.dim), 0) for shape in own.shape] or list(getattr(own, "num", ()))
    found = []
    for number, first in enumerate(firsts):
        tops = [number] if len(firsts) > 1 else range(len(layer.top))  # a single shape is that of all tops
        readers = [reader for top in tops for reader in draft.wiring.readers(layer, top)]
        if first == batch and not any(_is_constant(*reader) for reader in readers):
            found.append(number)
    return found


def _is_constant(reader: Any, bottom: int) -> bool:
    """Whether a layer reads there what has a value for each channel or class, not for each picture."""
    if reader.type in ("Scale", "Bias"):
        return bottom == 1 and (reader.scale_param.axis if reader.type == "Scale" else reader.bias_param.axis) != 0
    return reader.type == "InfogainLoss" and bottom == 2


def set_crop(draft: Draft, size: int) -> None:
    """``crop_size`` of every layer that reads pictures; 0 takes them whole. Raises ``InputError``."""
    layers = _pictures(draft)
    if not layers:
        raise InputError("crop_size: no layer of the net reads pictures that could be cropped")
    if any(layer.transform_param.crop_size != size for layer in layers):
        _see_targets(draft, "crop_size")
    for layer in layers:
        if layer.type == "WindowData" and not size:
            raise refuse(layer, "it warps its windows to crop_size, which must not be 0")
        layer.transform_param.crop_size = size


def transform_pictures(draft: Draft, changes: Mapping[str, Any]) -> None:
    """``mirror`` in training, ``scale`` and ``mean_file`` (``none``: no file) in both phases. Raises ``InputError``."""
    layers = _pictures(draft)
    if not layers:
        raise InputError(f"{', '.join(changes)}: no layer of the net reads pictures")
    trained = [layer for layer in layers if "TRAIN" in draft.wiring.phases(layer)]
    if any(layer.transform_param.mirror != changes.get("mirror", layer.transform_param.mirror) for layer in trained):
        _see_targets(draft, "mirror")
    for layer in layers:
        if "scale" in changes:
            layer.transform_param.scale = float(changes["scale"])
        if "mean_file" in changes:
            layer.transform_param.ClearField("mean_file")
            if changes["mean_file"] != "none":
                layer.transform_param.ClearField("mean_value")  # Caffe takes one of them
                layer.transform_param.mean_file = changes["mean_file"]
        if "mirror" in changes and any(layer is one for one in trained):
            _own(draft, layer).transform_param.mirror = changes["mirror"]


def resize_pictures(draft: Draft, size: int) -> None:
    """Pictures are resized to ``size`` pixels a side as they are read, which ImageData alone can. 0: as they are."""
    _see_targets(draft, "resize")
    for layer in _pictures(draft):
        if layer.type != "ImageData":
            raise refuse(layer, f"Caffe's {layer.type} layer cannot resize: make a database of that size")
        layer.image_data_param.new_height = layer.image_data_param.new_width = size


def set_input_size(draft: Draft, size: int) -> None:
    """The pixels a side that the net sees: pictures resized where the layer can, else cropped."""
    found = False
    pictures, hidden = {id(layer) for layer in _pictures(draft)}, draft.wiring.leads_to_linear()
    _see_targets(draft, "input_size")
    for layer in draft.wiring.layers:
        if id(layer) not in pictures | hidden:
            continue
        if layer.type == "ImageData":
            layer.image_data_param.new_height = layer.image_data_param.new_width = size
            layer.transform_param.ClearField("crop_size")
        elif layer.type in _CROPPED:
            layer.transform_param.crop_size = size
        elif layer.type in _GIVEN and not layer.bottom:
            shapes = [shape for shape in getattr(layer, _GIVEN[layer.type]).shape if len(shape.dim) == 4]
            for shape in shapes:
                shape.dim[2:] = [size, size]
            found |= bool(shapes)
            continue
        else:
            continue
        found = True
    if not found:
        raise InputError("input_size: no layer of the net says how large its pictures are")


def _pictures(draft: Draft) -> list[Any]:
    """The layers that read what the net computes on, not only what its outputs are compared with."""
    layers, hidden = [layer for layer in draft.wiring.layers if layer.type in _CROPPED], draft.wiring.leads_to_linear()
    return [layer for layer in layers if id(layer) in hidden] or layers


def _see_targets(draft: Draft, setting: str) -> None:
    """Raise ``InputError`` where another layer brings targets of single pixels: Caffe changes each layer by itself."""
    pictures = {id(layer) for layer in _pictures(draft)}
    for layer in draft.wiring.layers:
        if layer.type in _CROPPED and id(layer) not in pictures:
            shape = data_shape(layer)
            if shape is None or prod(shape[2:]) > 1:
                why = f"{setting} would change the pictures and not what it brings for their pixels"
                raise refuse(layer, f"{why}: make databases of changed ones")
