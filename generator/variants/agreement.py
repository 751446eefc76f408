"""Settings that speak of one thing: which of them counts, and which cannot both be asked."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from caffebench.common.errors import InputError
from caffebench.generator.meaning.settings import TYPE_READS
from caffebench.generator.variants.expressions import show
from caffebench.generator.variants.settings import Settings

__all__ = ["agreeing", "see_fall", "see_iterations"]


def agreeing(asked: Sequence[Settings], rest: Sequence[Settings]) -> tuple[list[Settings], list[Settings]]:
    """The layers that a sweep and the command line have ``asked``, and the ``rest``, where they speak of one thing.

    Of ``lr_policy`` and ``lr_schedule`` the one counts that stands in the first layer. ``filler`` says how the weights
    begin, so that there is no ``init`` but one that is asked. A solver type without momentum has none but one that is
    asked. Raises ``InputError`` for what is asked and would do nothing, or end Caffe.
    """
    layers = [*asked, *rest]
    for number, layer in enumerate(layers):
        if layer.lr_schedule is not None:  # a policy further down still has the names that expressions use
            break
        if layer.lr_policy is not None:
            layers[number + 1 :] = [one.model_copy(update={"lr_schedule": None}) for one in layers[number + 1 :]]
            break
    asked, rest = layers[: len(asked)], layers[len(asked) :]
    implied = Settings.model_validate(_of_weights(asked, rest) | _of_momentum(asked, rest))
    return [implied, *asked], rest


def see_iterations(values: Mapping[str, Any]) -> None:
    """Raise ``InputError`` for a schedule or phases that ``run-caffe`` would not take at this rate and length."""
    schedule = values.get("lr_schedule", {})
    if schedule.get("warmup", 0) >= values["max_iter"]:
        raise InputError(
            f"lr_schedule: its warmup of {schedule['warmup']} must be below max_iter, {values['max_iter']}"
        )
    if schedule.get("min_lr", 0) > values["base_lr"]:
        raise InputError(
            f"lr_schedule: its min_lr of {show(schedule['min_lr'])} is more than base_lr, {show(values['base_lr'])}"
        )
    ends = [phase["until"] for phase in values.get("phases", [])]
    if wrong := [later for earlier, later in pairwise(ends) if later <= earlier]:
        raise InputError(f"phases: the one up to {wrong[0]} has no iteration: the one before ends no earlier")


def see_fall(gamma: float, iterations: int) -> None:
    """Raise ``InputError`` for a ``gamma`` of policy exp that a float of Caffe's would make another fall of.

    Near 1 floats are 6e-8 apart, which many iterations make much of; a tenth of the last rate is let pass.
    """
    (held,) = struct.unpack("f", struct.pack("f", gamma))
    if 0 < gamma < 1 and iterations * abs(math.log(gamma) - math.log(held)) > 0.1:
        raise InputError(
            f"gamma: over {iterations} iterations policy exp would need {gamma:.12g}, which Caffe's float rounds to "
            f"{held:.8g}: choose another lr_policy"
        )


def _of_weights(asked: Sequence[Settings], rest: Sequence[Settings]) -> dict[str, Any]:
    init, filled = _first(asked, "init"), _fills(asked)
    layers = [*asked, *rest]
    weights = _first(layers, "weights")
    if init not in (None, "none") and filled:
        raise InputError(f"init: {init} writes over the weights that 'filler' fills: leave out one of them")
    # An init that stands further away than the weights is that of other variants.
    if init not in (None, "none") and weights is not None and _place(layers, "init") <= _place(layers, "weights"):
        raise InputError(f"init: {init} would do nothing: training starts from the weights of {weights}")
    if init is None and any(_fills([one]) for one in _above_init(layers)):
        return {"init": "none"}
    init = _first(layers, "init")
    edited = any("weight_filler" in str(path) for entry in _first(asked, "edit") or [] for path in entry)
    if edited and init not in (None, "none") and weights is None:
        raise InputError(f"init: {init} writes over the weights that a weight_filler fills: say init: none, too")
    return {}


def _of_momentum(asked: Sequence[Settings], rest: Sequence[Settings]) -> dict[str, Any]:
    kind, momentum = _first([*asked, *rest], "solver_type"), _first([*asked, *rest], "momentum")
    if kind is None or "momentum" in TYPE_READS[kind] or momentum in (None, 0, "0"):
        return {}
    if _first(asked, "momentum") is not None:
        raise InputError(f"solver_type: {kind} takes no momentum: give its variant momentum: 0, not {momentum}")
    return {"momentum": 0}


def _above_init(layers: Sequence[Settings]) -> Sequence[Settings]:
    return layers[: _place(layers, "init")]


def _place(layers: Sequence[Settings], name: str) -> int:
    return next((number for number, one in enumerate(layers) if getattr(one, name) is not None), len(layers))


def _fills(layers: Sequence[Settings]) -> bool:
    return any(one.filler is not None or one.filler_std is not None for one in layers)


def _first(layers: Sequence[Settings], name: str) -> Any:
    return next((getattr(one, name) for one in layers if getattr(one, name) is not None), None)
