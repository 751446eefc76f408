"""What the losses of a net tell: how many classes there are, and the loss of a net that guesses."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from caffebench.analysis.runs.text_format import Message, first
from caffebench.common.caffe_facts import SOFTMAX_LOSSES

__all__ = ["Losses", "printed_losses", "wired_losses"]

_LIMIT = 10_000_000  # more classes than that are noise


class Losses(NamedTuple):
    """What is known of the losses of a training net."""

    classes: int | None = None
    """Of the last one over classes."""
    guessing: float | None = None
    """Their sum for a net that guesses: ln(classes), times the weight, of each. None where that cannot be told: of
    other losses than a softmax's, and of one that is no mean over labels (FCN's ``normalize: false``)."""
    told: bool = False
    """There is a loss; else it may be in a part of the net that the log lacks."""
    images: int | None = None
    """That the last one gets at once, where it is known."""


_SOFTMAX = {one.upper() for one in SOFTMAX_LOSSES} | {"SOFTMAXLOSS"}
_OVER_CLASSES = _SOFTMAX | {"HINGELOSS", "INFOGAINLOSS"}


def printed_losses(layers: Sequence[Message]) -> Losses:
    """The losses among the layers of a training net, in Caffe's layout of today or that of 2014."""
    makers: dict[Any, Message] = {}
    classes, guessing, told = None, 0.0, False
    for layer in layers:
        kind = str(first(layer, "type")).upper().replace("_", "")
        weights = layer.get("loss_weight") or ([1.0] if kind.endswith("LOSS") else [])
        fed = _fed_classes(makers, first(layer, "bottom"), len(layers)) if kind in _OVER_CLASSES else None
        classes = fed or classes
        if weights and weights[0] != 0:
            told = True
            is_mean = kind in _SOFTMAX and isinstance(weights[0], int | float) and _is_mean(first(layer, "loss_param"))
            guessing += weights[0] * math.log(fed) if is_mean and fed else math.nan
        makers.update({top: layer for top in layer.get("top", []) if top not in layer.get("bottom", [])})
    return Losses(classes, guessing if guessing > 0 else None, told)


def _fed_classes(makers: dict[Any, Message], blob: Any, most: int) -> int | None:
    """``num_output`` of the layer that ``blob`` comes from, through at most so many that keep the channels."""
    maker = makers.get(blob)
    for _ in range(most):
        if maker is None:
            return None
        for param in ("inner_product_param", "convolution_param"):
            count = first(maker, param, "num_output")
            if isinstance(count, int) and 1 < count < _LIMIT:
                return count
        maker = makers.get(first(maker, "bottom"))
    return None


def _is_mean(loss_param: Any) -> bool:
    """Whether a softmax loss is divided by the number of labels (``softmax_loss_layer.cpp``)."""
    if not isinstance(loss_param, dict):
        return True
    normalization = first(loss_param, "normalization")
    return first(loss_param, "normalize") is not False if normalization is None else normalization in ("VALID", "FULL")


_WIRING = re.compile(
    rb"net\.cpp:\d+\] (\S+ (?:<-|->) [^\n]*|Setting up [^\n]*|Top shape: [^\n]*| *with loss weight[^\n]*)"
)
_SHAPE = re.compile(r"Top shape: ((?:\d+ )*)\(")
_WEIGHT = re.compile(r"with loss weight (\d+(?:\.\d*)?(?:e[-+]?\d+)?)$")


def wired_losses(wiring: bytes) -> Losses:
    """The losses of a training net, from the lines that Caffe writes while it sets the net up.

    They are the layers with a loss weight, or, where none is told, the last one that joins two blobs. They are taken
    for those of a softmax where they join scores and labels, and there is one label for each image.
    """
    bottoms: dict[str, list[str]] = {}
    tops: dict[str, list[str]] = {}
    shapes: dict[str, list[int]] = {}
    layer, place = "", 0
    losses: dict[str, float] = {}
    for found_line in _WIRING.finditer(wiring):
        line = found_line[1].decode(errors="replace").rstrip()
        if " <- " in line:
            name, blob = line.split(" <- ", 1)
            bottoms.setdefault(name, []).append(blob)
        elif " -> " in line:
            name, blob = line.split(" -> ", 1)
            tops.setdefault(name, []).append(blob.removesuffix(" (in-place)"))
        elif line.startswith("Setting up "):
            layer, place = line[11:].strip(), 0
        elif shape := _SHAPE.match(line):
            made = tops.get(layer) or [layer]
            if place < len(made):
                shapes[made[place]] = [int(one) for one in shape[1].split()]
            place += 1
        elif weight := _WEIGHT.search(line):
            losses[layer] = float(weight[1])
    found, guessing = Losses(), 0.0
    for name in losses or bottoms:
        scores, labels = ([shapes.get(one, []) for one in bottoms.get(name, ())] + [[], []])[:2]
        # Labels have one channel; where both have as many (a regression), there are no classes.
        one_channel = len(labels) == 1 or (len(labels) > 1 and labels[1] == 1) or (not labels and not losses)
        fits = len(bottoms.get(name, ())) == 2 and len(scores) > 1 and 1 < scores[1] < _LIMIT and one_channel
        if fits:
            found = Losses(scores[1], images=scores[0])
        one_each = fits and math.prod(scores[2:]) == 1
        guessing += losses.get(name, 0.0) * math.log(scores[1]) if one_each else math.nan
    return found._replace(guessing=guessing if guessing > 0 else None, told=bool(losses))
