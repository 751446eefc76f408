"""The data side of a variant: batch size, crop, the size of what the net sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.base.draft import Draft, refuse

__all__ = ["resize_pictures", "set_batch_size", "set_crop", "set_input_size", "transform_pictures"]

_BATCHED = {
    "Data": "data_param",
    "ImageData": "image_data_param",
    "WindowData": "window_data_param",
    "HDF5Data": "hdf5_data_param",
    "MemoryData": "memory_data_param",
}
_CROPPED = {"Data", "ImageData", "WindowData", "MemoryData"}
_GIVEN = {"Input": "input_param", "DummyData": "dummy_data_param"}


def set_batch_size(draft: Draft, size: int) -> None:
    """The batch size of every layer that reads data in training; one that both phases share is made two."""
    wiring = draft.wiring
    for layer in [one for one in wiring.layers if "TRAIN" in wiring.phases(one)]:
        if layer.type in _BATCHED:
            getattr(_own(draft, layer), _BATCHED[layer.type]).batch_size = size
        elif layer.type in _GIVEN and not layer.bottom:
            for shape in getattr(_own(draft, layer), _GIVEN[layer.type]).shape:
                if shape.dim:
                    shape.dim[0] = size
        elif layer.type == "Python" and not layer.bottom:
            raise refuse(layer, "it says in its own code how large its batches are")


def _own(draft: Draft, layer: Any) -> Any:
    """``layer`` for TRAIN alone: where TEST reads through it too, TEST gets a copy."""
    wiring = draft.wiring
    if "TEST" not in wiring.phases(layer) or "TEST" not in draft.phases:
        return layer
    copies = []
    for phase in (0, 1):
        copy = type(layer).FromString(layer.SerializeToString())
        for rule in copy.include:
            rule.phase = phase
        if not copy.include:
            copy.include.add(phase=phase)
        copies.append(copy)
    wiring.replace(layer, copies)
    return copies[0]


def set_crop(draft: Draft, size: int) -> None:
    """``crop_size`` of every layer that reads pictures; 0 takes them whole. Raises ``InputError``."""
    layers = [layer for layer in draft.wiring.layers if layer.type in _CROPPED]
    if not layers:
        raise InputError("crop_size: no layer of the net reads pictures that could be cropped")
    for layer in layers:
        if layer.type == "WindowData" and not size:
            raise refuse(layer, "it warps its windows to crop_size, which must not be 0")
        layer.transform_param.crop_size = size


def transform_pictures(draft: Draft, changes: Mapping[str, Any]) -> None:
    """``mirror`` in training, ``scale`` and ``mean_file`` (``none``: no file) in both phases. Raises ``InputError``."""
    layers = [layer for layer in draft.wiring.layers if layer.type in _CROPPED]
    if not layers:
        raise InputError(f"{', '.join(changes)}: no layer of the net reads pictures")
    for layer in layers:
        if "scale" in changes:
            layer.transform_param.scale = float(changes["scale"])
        if "mean_file" in changes:
            layer.transform_param.ClearField("mean_file")
            if changes["mean_file"] != "none":
                layer.transform_param.ClearField("mean_value")  # Caffe takes one of them
                layer.transform_param.mean_file = changes["mean_file"]
        if "mirror" in changes and "TRAIN" in draft.wiring.phases(layer):
            _own(draft, layer).transform_param.mirror = changes["mirror"]


def resize_pictures(draft: Draft, size: int) -> None:
    """Pictures are resized to ``size`` pixels a side as they are read, which ImageData alone can. 0: as they are."""
    for layer in [layer for layer in draft.wiring.layers if layer.type in _CROPPED]:
        if layer.type != "ImageData":
            raise refuse(layer, f"Caffe's {layer.type} layer cannot resize: make a database of that size")
        layer.image_data_param.new_height = layer.image_data_param.new_width = size


def set_input_size(draft: Draft, size: int) -> None:
    """The pixels a side that the net sees: pictures resized where the layer can, else cropped."""
    found = False
    for layer in draft.wiring.layers:
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
