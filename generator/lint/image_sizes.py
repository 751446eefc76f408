"""The sizes of the images that a net reads, guessed where the data are not here, and what hangs on such a guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caffebench.generator.meaning import Layer, PhaseNet

__all__ = ["GUESSES", "DataShape", "data_shape", "needs_the_size"]

# Channels, height and width to try where nothing tells the size of the images.
GUESSES = ((3, 256, 256), (1, 28, 28), (3, 32, 32), (1, 227, 227))
Traits = frozenset[str]  # of a blob: "channels" or "sides" are a guess, a dimension is "stated" in the file


@dataclass(frozen=True)
class DataShape:
    """Shapes of what a data layer gives, and which dimensions of its images are a guess: channels, sides."""

    tops: tuple[tuple[int, ...], ...]
    guessed: Traits


def data_shape(layer: Layer, record: Sequence[int] | None, guess: Sequence[int]) -> DataShape | None:
    """The shapes that a layer of data gives for a batch; None for any other layer.

    ``record`` is (channels, height, width) of its first record where that can be read, ``guess`` what to take if not.
    """
    message, crop = layer.message, layer.message.transform_param.crop_size
    if layer.type == "Data":
        means = len(message.transform_param.mean_value)
        channels, *sides = record or (means if means > 1 else guess[0], *guess[1:])
        guessed = set() if record else {"sides"} if means > 1 else {"channels", "sides"}
        batch = message.data_param.batch_size
    elif layer.type == "ImageData":
        image = message.image_data_param
        resized = bool(image.new_height and image.new_width)
        channels = 3 if image.is_color else 1
        sides = [image.new_height, image.new_width] if resized else list(guess[1:])
        guessed = set() if resized else {"sides"}
        batch = image.batch_size
    elif layer.type == "WindowData":
        channels, sides, guessed, batch = 3, list(guess[1:]), {"sides"}, message.window_data_param.batch_size
    else:
        return None
    if crop:
        sides, guessed = [crop, crop], guessed - {"sides"}
    batch = max(batch, 1)
    return DataShape(((batch, channels, *sides), (batch,)), frozenset(guessed))


def needs_the_size(net: PhaseNet, data: Mapping[str, DataShape], name: str) -> bool:
    """Whether a layer holds dimensions that were guessed against numbers that the file states, so that only the true
    size of the images tells whether it fits.

    The shape of a ``DummyData`` layer is such a number, and so is where a ``Slice`` cuts the channels of the data.
    ``data`` are the shapes of the layers of data by their first top.
    """
    traits: dict[str, Traits] = {}
    for layer in net.layers:
        message = layer.message
        if message.top and message.top[0] in data and not message.bottom:
            traits[message.top[0]] = data[message.top[0]].guessed
            continue
        bottom = frozenset().union(*(traits.get(blob, frozenset()) for blob in message.bottom))
        if layer.name == name and _compares(layer, bottom):
            return True
        traits |= dict.fromkeys(message.top, _passed_on(layer, bottom))
    return False


def _compares(layer: Layer, bottom: Traits) -> bool:
    message, guessed = layer.message, bottom & {"channels", "sides"}
    if layer.type == "Slice":
        p = message.slice_param
        axis = p.slice_dim if p.HasField("slice_dim") else p.axis
        return bool(guessed) if axis < 0 else ("channels" if axis == 1 else "sides") in guessed and axis > 0
    if layer.type in ("Convolution", "Deconvolution"):
        return message.convolution_param.group > 1 and "channels" in guessed
    if layer.type == "Reshape":
        return bool(guessed) and any(dim > 0 for dim in message.reshape_param.shape.dim)
    return bool(guessed) and "stated" in bottom


def _passed_on(layer: Layer, bottom: Traits) -> Traits:
    if layer.type in ("DummyData", "Input", "Parameter"):
        return frozenset({"stated"})
    if layer.type == "InnerProduct":
        return frozenset()
    if layer.type in ("Convolution", "Deconvolution"):
        return bottom - {"channels"}
    if layer.type == "Pooling" and layer.message.pooling_param.global_pooling:
        return bottom - {"sides"}
    if layer.type == "Reshape" and any(dim > 0 for dim in layer.message.reshape_param.shape.dim):
        return bottom | {"stated"}
    return bottom
