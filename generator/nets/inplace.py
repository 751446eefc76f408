"""Activations, dropout, BatchNorm and Scale of a generated net put in place, each where that is right."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
# A blob of a net that is written as ours are.
_BLOB = re.compile(r'\b(bottom|top)(\s*:\s*)"([^"\\\n]*)"')


def put_in_place(text: str, solver: Any) -> str:
    """The text of a solver with its net inside, in which every layer that can works in place.

    A layer is put in place where it is the only one to read its bottom, gets its own gradient right there
    (`WORK_IN_PLACE`), and writes over nothing that the backward pass of a layer before it reads (`spoils`). All values
    and gradients stay what they were, to the bit. ``solver`` is the text's ``SolverParameter``, and is changed with it.
    Raises ``CaffebenchError`` where the text would not come to that net.
    """
    wiring = Wiring(solver.net_param.layer, caffe_messages().LayerParameter)
    # Reading the text again is the slow way; a comment with a blob in it takes it.
    plainly_written = _blobs_in(text) == _blobs_of(wiring.layers)
    moved: dict[str, str] = {}
    for layer in wiring.layers:
        if _can(layer, wiring):
            moved[layer.top[0]] = layer.bottom[0]
            wiring.rename(layer, 0, layer.bottom[0])
    changed = _BLOB.sub(lambda found: f'{found[1]}{found[2]}"{_last(moved, found[3])}"', text)
    if not (plainly_written and _blobs_in(changed) == _blobs_of(wiring.layers)) and _parsed(changed) != solver:
        raise CaffebenchError("layers of the net cannot be put in place: its file is written as none of ours is")
    return changed


def _parsed(text: str) -> Any:
    from google.protobuf import text_format

    return text_format.Parse(text, caffe_messages().SolverParameter())


def _blobs_in(text: str) -> dict[str, list[str]]:
    """The names of bottoms and tops in the order in which they stand in a text."""
    found = _BLOB.findall(text)
    return {field: [name for kind, _, name in found if kind == field] for field in ("bottom", "top")}


def _blobs_of(layers: Sequence[Any]) -> dict[str, list[str]]:
    """The same of a net."""
    return {field: [name for layer in layers for name in getattr(layer, field)] for field in ("bottom", "top")}


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
