"""Layers of Caffe's that keep something from one batch to the next that no snapshot has: LSTM and RNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffebench.launcher.solver.nets import built_nets

__all__ = ["hidden_states"]


def hidden_states(parameter: Any) -> list[str]:
    """The hidden states that a resume loses in the nets of a ``SolverParameter``, in words.

    Caffe begins with zeros, and neither its snapshots nor pycaffe know these blobs (``recurrent_layer.cpp``). A layer
    whose sequences all end with their batch has nothing to lose; that can be told where the indicators are constant.
    """
    found = dict.fromkeys(
        layer.name
        for net in built_nets(parameter)
        for place, layer in enumerate(net.layers)
        if layer.type in ("LSTM", "RNN")
        and not layer.recurrent_param.expose_hidden  # or it comes from other layers
        and not _are_zero(layer.bottom[1], net.layers[:place])
    )
    return [f"hidden state of {name} (zero, as at the start of a sequence)" for name in found]


def _are_zero(blob: str, layers: Sequence[Any]) -> bool:
    """Whether a blob is of a DummyData layer that fills it with zeros."""
    source = next((layer for layer in reversed(layers) if blob in layer.top), None)
    if source is None or source.type != "DummyData":
        return False
    fillers = source.dummy_data_param.data_filler
    if not fillers:
        return True  # the default (dummy_data_layer.cpp)
    filler = fillers[list(source.top).index(blob) if len(fillers) > 1 else 0]
    return bool(filler.type == "constant" and filler.value == 0)
