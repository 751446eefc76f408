"""A net while a variant is made of it: its layers, the phases it is built for, and the shapes of its blobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from caffebench.common.errors import InputError
from caffebench.engine.messages import caffe_messages
from caffebench.generator.nets.shapes import LayerShapes, Shape, infer
from caffebench.generator.nets.wiring import LINEAR, Wiring

__all__ = ["ACTIVATIONS", "Draft", "hidden_activations", "refuse", "share"]

ACTIVATIONS = {"ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "Clip", "Swish", "BNLL"}


class Draft:
    """One net of a solver, for the transforms of this room to change."""

    def __init__(self, net: Any, phases: frozenset[str], records: Mapping[str, Sequence[int]]) -> None:
        """``records`` gives (channels, height, width) of the stored pictures by data layer, where they are known."""
        self.net = net
        self.phases = phases
        self.records = records
        make = caffe_messages().LayerParameter
        self.wiring = Wiring((make.FromString(layer.SerializeToString()) for layer in net.layer), make)

    def of_phase(self, phase: str) -> list[Any]:
        """The layers of the net in one phase."""
        return [layer for layer in self.wiring.layers if phase in self.wiring.phases(layer)]

    def bottom_shape(self, layer: Any, phase: str) -> Shape | None:
        """The shape of the first bottom of a layer; None where it is not known."""
        for one in infer(self.of_phase(phase), self.records):
            if one.layer is layer:
                return one.bottoms[0]
        return None

    def finish(self) -> None:
        """Mend what works in place wrongly, see that every shape fits, and put the layers back into the net."""
        self.wiring.repair()
        for layer in self.wiring.layers:
            _see_filler(layer)
        for phase in self.phases:
            for one in infer(self.of_phase(phase), self.records):
                if phase == "TRAIN" and one.layer.type == "BatchNorm":
                    _see_variance(one)
        del self.net.layer[:]
        self.net.layer.extend(self.wiring.layers)


def _see_filler(layer: Any) -> None:
    """Raise ``InputError`` for a sparse filler of more values than there are outputs, which Caffe aborts on."""
    message = layer.inner_product_param if layer.type == "InnerProduct" else layer.convolution_param
    if layer.type in LINEAR and message.weight_filler.sparse > message.num_output:
        filled = f"its weight_filler's sparse: {message.weight_filler.sparse}"
        raise refuse(layer, f"{filled} is more than the {message.num_output} outputs that it would have")


def _see_variance(norm: LayerShapes) -> None:
    """Raise ``InputError`` for a BatchNorm that would divide by the deviation of one value, which is none."""
    shape, settings = norm.bottoms[0], norm.layer.batch_norm_param
    learns = not (settings.HasField("use_global_stats") and settings.use_global_stats)
    if shape is not None and learns and prod(shape[:1] + shape[2:]) == 1:
        raise refuse(norm.layer, "a batch of one value in each channel has no variance to normalise by")


def refuse(layer: Any, why: str) -> InputError:
    """The error of a layer that a setting has no place for."""
    return InputError(f"layer {layer.name} ({layer.type}): {why}")


def hidden_activations(wiring: Wiring) -> list[Any]:
    """The activations between layers with weights: no output's own (a last Sigmoid) and no gate's."""
    hidden = wiring.leads_to_linear()
    return [
        layer
        for layer in wiring.layers
        if layer.type in ACTIVATIONS and id(layer) in hidden and not any(map(_is_gated, wiring.after(layer)))
    ]


def _is_gated(reader: Any) -> bool:
    """Whether a layer multiplies by what it reads: an attention's or a squeeze-and-excitation's gate."""
    product = reader.eltwise_param.EltwiseOp.Value("PROD")
    multiplies = reader.type == "Eltwise" and reader.eltwise_param.operation == product
    return multiplies or (reader.type == "Scale" and len(reader.bottom) > 1)


def share(layer: Any, count: int, linear: Any, word: str, lr_mult: float, decay_mult: float = 0) -> None:
    """Give a new layer ``count`` parameters; shared between branches where those of its ``linear`` layer are."""
    del layer.param[:]
    named = next((spec.name for spec in linear.param if spec.name), "") if linear is not None else ""
    for number in range(count):
        spec = layer.param.add(lr_mult=lr_mult, decay_mult=decay_mult)
        if named:
            spec.name = f"{named}/{word}{number if count > 1 else ''}"
