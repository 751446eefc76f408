"""What fine-tuning changes: a new classifier, layers that stay as they are, rates by layer."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from caffebench.common.caffe_facts import LABEL_LAYERS
from caffebench.common.errors import InputError
from caffebench.generator.base.draft import Draft, refuse
from caffebench.generator.meaning.settings import parameter_count
from caffebench.generator.nets.wiring import Wiring, is_upsampling

__all__ = ["agree", "freeze_up_to", "renew_classifier", "set_lr_mults", "specs_of"]

_OF_CLASSES = {"Softmax", *LABEL_LAYERS}


def renew_classifier(draft: Draft, classes: int | None) -> None:
    """Give every classifier another name, so that ``--weights`` finds no weights for it, and ``classes`` outputs.

    A classifier is a linear layer that a loss or a measure of classes follows, and no linear layer between. Where
    ``classes`` is None the number of outputs stays. An accuracy among the best k of no more than k classes goes.
    Raises ``InputError`` if there is none.
    """
    wiring = draft.wiring
    of_classes = [head for head in wiring.heads() if _OF_CLASSES & {one.type for one in _behind(wiring, head)}]
    heads = {id(twin): twin for head in of_classes for twin in wiring.twins(head)}  # one for each phase is one layer
    if not heads:
        raise InputError("classifier: no linear layer of the net leads to a loss over classes")
    if classes is not None:
        behind = {id(one): one for head in heads.values() for one in _behind(wiring, head)}
        heads |= {id(one): one for one in behind.values() if _resize_upsampling(one, classes)}
        for head in heads.values():
            message = head.inner_product_param if head.type == "InnerProduct" else head.convolution_param
            message.num_output = classes
        for one in behind.values():
            if one.type == "Accuracy" and one.accuracy_param.top_k > 1 and one.accuracy_param.top_k >= classes:
                wiring.replace(one, [])
    for name in {head.name for head in heads.values()}:
        new = wiring.unique(f"{name}_new")
        for head in [head for head in heads.values() if head.name == name]:
            head.name = new
            for spec in [spec for spec in head.param if spec.name]:
                spec.name += "_new"


def _resize_upsampling(layer: Any, classes: int) -> bool:
    """Let a layer that enlarges a classifier's outputs take another number; False for any other layer.

    Its weights have another size then and are filled anew. Raises ``InputError`` where they are no filler's.
    """
    if not is_upsampling(layer) or layer.convolution_param.num_output == classes:
        return False
    p = layer.convolution_param
    if p.weight_filler.type != "bilinear":
        why = 'its weights, of another number of classes, come from elsewhere: say weight_filler { type: "bilinear" }'
        raise refuse(layer, f"{why}, which fills them anew")
    if p.group > 1:
        p.group = classes
    return True


def freeze_up_to(draft: Draft, name: str) -> None:
    """Let the layer called ``name``, and all that it is computed from, keep the weights that they begin with.

    Weights that they share stay, too. Raises ``InputError`` for a layer that is not there, or learns in an unknown way.
    """
    wiring = draft.wiring
    last = [layer for layer in wiring.layers if layer.name == name]
    if not last:
        raise InputError(f"freeze: the net has no layer {name}{wiring.hint(name)}")
    frozen: dict[int, Any] = {}
    while last:
        layer = last.pop()
        if id(layer) not in frozen:
            frozen[id(layer)] = layer
            last += [source for number in range(len(layer.bottom)) for source in wiring.sources(layer, number)]
    shared: dict[str, tuple[float, float]] = {}
    for layer in frozen.values():
        for spec in _learned(layer):
            spec.lr_mult = spec.decay_mult = 0
            shared[spec.name] = (0, 0)
    agree(wiring, shared)


def set_lr_mults(draft: Draft, factors: Mapping[str, Any]) -> None:
    """Multiply the rates of layers by name (``conv*``): the first pattern that a layer's name fits counts.

    Raises ``InputError`` for a pattern that fits no layer that learns.
    """
    wiring = draft.wiring
    used: set[str] = set()
    shared: dict[str, tuple[float, float]] = {}
    for layer in wiring.layers:
        pattern = next((one for one in factors if fnmatchcase(layer.name, one)), None)
        if pattern is None or not _learned(layer):
            continue
        used.add(pattern)
        for spec in layer.param:
            spec.lr_mult *= float(factors[pattern])
            shared[spec.name] = (spec.lr_mult, spec.decay_mult)
    for pattern in factors:
        if pattern not in used:
            if any(fnmatchcase(layer.name, pattern) and _learned(layer) for layer in wiring.layers):
                raise InputError(f"lr_mults: an earlier pattern has every layer of {pattern}: put it first")
            raise InputError(f"lr_mults: no layer that learns is called {pattern}{wiring.hint(pattern)}")
    agree(wiring, shared)


def _behind(wiring: Wiring, layer: Any) -> list[Any]:
    """All layers that are computed from a layer."""
    found: dict[int, Any] = {}
    left = [layer]
    while left:
        for one in wiring.after(left.pop()):
            if id(one) not in found:
                found[id(one)] = one
                left.append(one)
    return list(found.values())


def specs_of(layer: Any) -> Any:
    """The ``param`` entries of a layer, one for each of its blobs of weights; those that it leaves out are put in.

    Raises ``InputError`` where Caffe alone knows how many there are.
    """
    count = parameter_count(layer)
    if count is None and layer.bottom and not layer.param:
        why = f"how many weights a {layer.type} layer has, Caffe alone knows: give it its 'param' entries"
        raise refuse(layer, why)
    for _ in range(len(layer.param), count or 0):
        layer.param.add(lr_mult=int(layer.type != "BatchNorm"), decay_mult=1)
    return layer.param


def _learned(layer: Any) -> Any:
    return specs_of(layer) if layer.type != "BatchNorm" else []  # its statistics have a rate of 0 as it is


def agree(wiring: Wiring, shared: Mapping[str, tuple[float, float]]) -> None:
    """Give all that share weights by name one rate and decay, those of ``shared``: Caffe aborts on two."""
    for layer in wiring.layers:
        for spec in layer.param:
            if spec.name and spec.name in shared:
                spec.lr_mult, spec.decay_mult = shared[spec.name]
