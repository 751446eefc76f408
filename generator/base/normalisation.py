"""BatchNorm put before or after the activations, moved, taken out, with or without Scale; LRN taken out."""

from __future__ import annotations

from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.base.activations import BETWEEN
from caffebench.generator.base.draft import Draft, hidden_activations, see_features, share
from caffebench.generator.nets.wiring import LINEAR, Wiring, in_place

__all__ = ["set_batch_norm", "set_scale", "take_out_lrn"]

_FRACTION = 0.95  # of the running statistics, where the user's net has no BatchNorm to take it from


def set_batch_norm(draft: Draft, place: str, scale: bool | None) -> None:
    """BatchNorm ``before`` or ``after`` each activation of a linear layer, or ``none`` at all. Raises ``InputError``.

    One that stands there already stays; one on the other side is moved, as it is. One without an activation behind it
    (before the sum of a residual block) stays. Where nothing is said of ``scale``, Scale layers go with theirs.
    """
    wiring = draft.wiring
    if place == "none":
        for layer in [one for one in wiring.layers if one.type == "BatchNorm"]:
            _remove(wiring, layer)
        return
    anchors = []
    for activation in hidden_activations(wiring, "bn"):
        linear = wiring.chain_above(activation, BETWEEN)
        if linear is not None and linear.type in LINEAR:
            anchors.append((linear, activation))
    if not anchors:
        raise InputError("bn: the net has no linear layer with an activation behind it, where BatchNorm could stand")
    places = []
    for linear, activation in anchors:
        before = _norms_between(wiring, activation)
        after = [one for one in wiring.after(activation) if one.type == "BatchNorm"]
        wanted, other = (before, after) if place == "before" else (after, before)
        if wanted:
            continue
        see_features(draft, activation, "BatchNorm")
        scales = list({id(one): one for layer in other for one in _scales(wiring, layer)}.values())
        for layer in other:
            _remove(wiring, layer)
        places.append((linear, activation, other, scales))
    names: dict[tuple[str, str], str] = {}  # one for both phases where the layers have one in both
    for linear, activation, moved, scales in places:
        name = moved[0].name if moved else wiring.unique(f"{linear.name}/bn")
        name = names.setdefault((linear.name, activation.name), name)
        norm = _insert(wiring, linear, activation, place, moved, name)
        for one in scales:
            one.bottom[:] = one.top[:] = norm.top
        wiring.insert_after(norm, scales)
    if scale is not None:
        set_scale(draft, scale)


def set_scale(draft: Draft, wanted: bool) -> None:
    """A Scale layer behind each BatchNorm, or behind none. Raises ``InputError`` where there is no BatchNorm."""
    wiring = draft.wiring
    norms = [layer for layer in wiring.layers if layer.type == "BatchNorm"]
    if not norms:
        raise InputError("bn_scale: the net has no BatchNorm layer that a Scale layer could stand behind")
    names: dict[str, str] = {}  # one for both phases where the BatchNorm has one in both
    for layer in norms:
        scales = _scales(wiring, layer)
        if wanted and not scales:
            linear = wiring.chain_above(layer, {*BETWEEN, "ReLU"})
            name = names.setdefault(layer.name, wiring.unique(f"{layer.name.removesuffix('/bn')}/scale"))
            scale = wiring.new(name, "Scale", layer.top, layer.top, like=layer)
            scale.scale_param.bias_term = True
            share(scale, 2, linear, f"{layer.name.rpartition('/')[2]}_scale", 1)
            wiring.insert_after(layer, [scale])
        for scale in scales if not wanted else []:
            if any(one is scale for one in wiring.layers):
                wiring.remove(scale)


def take_out_lrn(draft: Draft) -> None:
    """Take out every LRN layer. Raises ``InputError`` if there is none."""
    layers = [layer for layer in draft.wiring.layers if layer.type == "LRN"]
    if not layers:
        raise InputError("lrn: the net has no LRN layer to take out")
    for layer in layers:
        draft.wiring.remove(layer)


def _norms_between(wiring: Wiring, activation: Any) -> list[Any]:
    """The BatchNorm layers between an activation and the linear layer that feeds it."""
    found: list[Any] = []
    layer = activation
    while True:
        sources = [one for one in wiring.sources(layer) if one.type in BETWEEN]
        if not sources:
            return found
        found += [one for one in sources if one.type == "BatchNorm"]
        layer = sources[0]


def _scales(wiring: Wiring, norm: Any) -> list[Any]:
    return [one for one in wiring.after(norm) if one.type == "Scale" and len(one.bottom) == 1]


def _remove(wiring: Wiring, norm: Any) -> None:
    for scale in _scales(wiring, norm):
        wiring.remove(scale)
    wiring.remove(norm)


def _insert(wiring: Wiring, linear: Any, activation: Any, place: str, moved: list[Any], name: str) -> Any:
    norm = wiring.new(name, "BatchNorm", [], [], like=activation)
    if moved:
        settings = [one.batch_norm_param for one in moved]
        norm.batch_norm_param.CopyFrom(settings[0])
        if any(one != settings[0] for one in settings):  # one for each phase: Caffe's default is what they were for
            norm.batch_norm_param.ClearField("use_global_stats")
        norm.param.extend(moved[0].param)
    else:
        norm.batch_norm_param.moving_average_fraction = _FRACTION
        if any(spec.name for spec in linear.param):
            share(norm, 3, linear, "bn", 0)
    if place == "after":
        norm.bottom[:] = norm.top[:] = activation.top
        wiring.insert_after(activation, [norm])
    elif in_place(activation):
        norm.bottom[:] = norm.top[:] = activation.bottom
        wiring.insert_before(activation, [norm])
    else:
        norm.bottom[:], norm.top[:] = activation.bottom, [wiring.unique(name, activation)]
        activation.bottom[0] = norm.top[0]
        wiring.insert_before(activation, [norm])
    return norm
