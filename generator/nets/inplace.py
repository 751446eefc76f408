"""Activations, dropout, BatchNorm and Scale of a generated net put in place, each where that is right."""

from __future__ import annotations

import re
from typing import Any

from caffebench.common.errors import CaffebenchError
from caffebench.engine.messages import caffe_messages
from caffebench.generator.meaning.backward import WORK_IN_PLACE, in_place, spoils, spoils_itself
from caffebench.generator.nets.wiring import Wiring

__all__ = ["put_in_place"]

# What a layer may write over: tops that their layer does not need again, and that are no view of its bottom, as
# those of Flatten, Reshape and Slice are or may be. Data layers own what they hand out.
_MAY_BE_OVERWRITTEN = WORK_IN_PLACE | {
    "Bias",
    "Clip",
    "Concat",
    "Convolution",
    "Deconvolution",
    "Eltwise",
    "InnerProduct",
    "Pooling",
    "Power",
}


def put_in_place(text: str) -> str:
    """The text of a solver with its net inside, in which every layer that can works in place.

    A layer is put in place where it is the only one to read its bottom, gets its own gradient right there
    (`WORK_IN_PLACE`), and writes over nothing that the backward pass of a layer before it reads (`spoils`). All values
    and gradients stay what they were, to the bit. Raises ``CaffebenchError`` where the text would not come to that net.
    """
    from google.protobuf import text_format

    solver = text_format.Parse(text, caffe_messages().SolverParameter())
    wiring = Wiring(solver.net_param.layer, caffe_messages().LayerParameter)
    moved: dict[str, str] = {}
    for layer in wiring.layers:
        if _can(layer, wiring):
            moved[layer.top[0]] = layer.bottom[0]
            wiring.rename(layer, 0, layer.bottom[0])
    changed = re.sub(
        r'\b(bottom|top)(\s*:\s*)"([^"\\\n]*)"', lambda found: f'{found[1]}{found[2]}"{_last(moved, found[3])}"', text
    )
    if text_format.Parse(changed, caffe_messages().SolverParameter()) != solver:
        raise CaffebenchError("layers of the net cannot be put in place: its file is written as none of ours is")
    return changed


def _last(moved: dict[str, str], name: str) -> str:
    while name in moved:
        name = moved[name]
    return name


def _can(layer: Any, wiring: Wiring) -> bool:
    if layer.type not in WORK_IN_PLACE or spoils_itself(layer) or in_place(layer):
        return False
    if len(layer.bottom) != 1 or len(layer.top) != 1 or layer.include or layer.exclude:
        return False
    if sum(layer.top[0] in one.top for one in wiring.layers) > 1:  # a blob that several layers write
        return False
    sources = wiring.sources(layer)
    if not sources or any(one.type not in _MAY_BE_OVERWRITTEN or len(one.top) > 1 for one in sources):
        return False
    if any(len(wiring.readers(one)) > 1 for one in sources):
        return False
    return not any(spoils(layer, one) for one in wiring.writers(layer))
