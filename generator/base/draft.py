"""The nets of a solver while a variant is made of them: layers, the phases they are built for, shapes of blobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from caffebench.common.errors import InputError
from caffebench.engine.messages import caffe_messages
from caffebench.generator.nets.shapes import LayerShapes, Shape, infer
from caffebench.generator.nets.wiring import LEARNS, LINEAR, Wiring

__all__ = ["ACTIVATIONS", "Draft", "hidden_activations", "refuse", "see_composed", "see_features", "share"]

ACTIVATIONS = {"ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "Clip", "Swish", "BNLL"}


class Draft:
    """All nets of a solver as one, for the transforms of this room to change: what they have in common stays so."""

    def __init__(self, nets: Sequence[tuple[Any, Sequence[Any]]], records: Mapping[str, Sequence[int]]) -> None:
        """``nets``: with the states that each is built in.

        ``records`` gives (channels, height, width) of the stored pictures by data layer, where they are known.
        """
        make = caffe_messages().LayerParameter
        parts = [([make.FromString(one.SerializeToString()) for one in net.layer], states) for net, states in nets]
        self._nets = [net for net, _ in nets]
        self.records = records
        self.wiring = Wiring.of_nets(parts, make)
        self._wrong_before = _wrong(self.wiring)

    def shapes(self) -> Iterator[tuple[str, list[LayerShapes]]]:
        """The phase of each net that the solver builds, and its shapes. Raises ``InputError`` where they cannot be."""
        for phase, layers in self.wiring.built():
            yield phase, infer(layers, self.records)

    def bottom_shape(self, layer: Any, phase: str) -> Shape | None:
        """The shape of the first bottom of a layer; None where it is not known."""
        found = (one for of, shapes in self.shapes() if of == phase for one in shapes if one.layer is layer)
        return next((one.bottoms[0] for one in found), None)

    def finish(self) -> None:
        """Mend what works in place wrongly, see that Caffe can build it, and put the layers back into the nets."""
        self.wiring.repair()
        for layer in self.wiring.layers:
            _see_filler(layer)
        for wrong, before in zip(_wrong(self.wiring), self._wrong_before, strict=True):
            if (
                wrong and not before
            ):  # a net that Caffe cannot build as it is, say one that is never tested, may stay so
                raise wrong[0]
        for phase, shapes in self.shapes():
            for one in shapes:
                if phase == "TRAIN" and one.layer.type == "BatchNorm":
                    _see_variance(one)
        for number, net in enumerate(self._nets):
            del net.layer[:]
            net.layer.extend(self.wiring.part(number))


def _wrong(wiring: Wiring) -> list[list[InputError]]:
    """What Caffe would abort on, or never train, in each net that the solver builds."""
    trained = {layer.name for layer in wiring.layers if "TRAIN" in wiring.phases(layer)}
    found = []
    for phase, layers in wiring.built():
        made: set[str] = set()
        wrong = []
        for layer in layers:
            for blob in sorted(set(layer.bottom) - made):
                wrong.append(refuse(layer, f"in {phase} no layer above it would make the blob {blob} that it reads"))
            for blob in sorted((set(layer.top) & made) - set(layer.bottom)):
                wrong.append(refuse(layer, f"in {phase} another layer, too, would write the blob {blob}"))
            if layer.type in LEARNS and trained and layer.name not in trained:
                why = "it would be in a test net alone and never learn: give what is the same in both phases one name"
                wrong.append(refuse(layer, why))
            made |= set(layer.top)
        found.append(wrong)
    return found


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


def see_composed(wiring: Wiring, what: str) -> None:
    """Raise ``InputError`` where an activation is composed of layers that ``what`` would tear: our RReLU."""
    for layer in wiring.layers:
        product = layer.type == "Eltwise" and layer.eltwise_param.operation == layer.eltwise_param.PROD
        factors = [one for number in range(len(layer.bottom)) for one in wiring.sources(layer, number) if product]
        halves = [one for factor in factors if factor.type == "ReLU" for one in wiring.sources(factor)]
        negative = any(one.type == "Power" and one.power_param.scale < 0 for one in halves)
        if negative and any(factor.type == "DummyData" for factor in factors):
            why = f"an RReLU is composed of it and others, which {what} would not change as one"
            raise refuse(layer, f"{why}: take the net that has another activation there as the base")


def see_features(draft: Draft, layer: Any, what: str) -> None:
    """Raise ``InputError`` where what ``layer`` reads has its features not on axis 1, as ``what`` takes them."""
    wiring, seen = draft.wiring, set[int]()
    left = [layer]
    while left:
        one = left.pop()
        for source in [source for number in range(len(one.bottom)) for source in wiring.sources(one, number)]:
            axis = _feature_axis(draft, source)
            if axis not in (None, 1):
                why = f"the features of {source.name} are on axis {axis}, and Caffe's {what} takes axis 1 for them"
                raise refuse(layer, why)
            if axis is None and id(source) not in seen and source.type not in ("Reshape", "Flatten"):
                seen.add(id(source))
                left.append(source)


def _feature_axis(draft: Draft, layer: Any) -> int | None:
    """The axis of what a layer with weights makes; None for any other, and where it is not known."""
    if layer.type in ("LSTM", "RNN"):
        return 2  # of T x N x D
    if layer.type in ("InnerProduct", "Embed"):
        negative = layer.type == "InnerProduct" and layer.inner_product_param.axis < 0
        shape = draft.bottom_shape(layer, "TRAIN") if negative or layer.type == "Embed" else None
        if layer.type == "Embed":
            return None if shape is None else len(shape)
        return int(layer.inner_product_param.axis) + (len(shape) if shape else 0)
    return int(layer.convolution_param.axis) if layer.type in LINEAR else None


def hidden_activations(wiring: Wiring, what: str) -> list[Any]:
    """The activations between layers with weights: no output's own (a last Sigmoid) and no gate's.

    ``what`` will change them. Raises ``InputError`` for one that is composed of several layers.
    """
    see_composed(wiring, what)
    hidden = wiring.leads_to_linear()
    found = [layer for layer in wiring.layers if layer.type in ACTIVATIONS and id(layer) in hidden]
    readers = {id(layer): [one for twin in wiring.twins(layer) for one in wiring.after(twin)] for layer in found}
    return [layer for layer in found if not any(map(_is_gated, readers[id(layer)]))]


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
