"""Which layers of a net prototxt are in the net that Caffe builds from it: the rules of ``Net::FilterNet``."""

from __future__ import annotations

from typing import Any

__all__ = ["included", "net_state"]


def net_state(pb: Any, phase: str, *states: Any) -> Any:
    """The ``NetState`` of a net: ``phase`` ("TRAIN", "TEST"), overridden by what the net and then the solver say.

    ``pb`` is the module ``caffe_pb2``; a state that is None says nothing.
    """
    state = pb.NetState(phase=pb.Phase.Value(phase))
    for given in states:
        if given is not None:
            state.MergeFrom(given)
    return state


def included(layer: Any, state: Any) -> bool:
    """Whether a net in this state has the layer, a ``LayerParameter``."""
    wanted = any(_meets(state, rule) for rule in layer.include) if layer.include else True
    return wanted and not any(_meets(state, rule) for rule in layer.exclude)


def _meets(state: Any, rule: Any) -> bool:
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and all(stage in state.stage for stage in rule.stage)
        and all(stage not in state.stage for stage in rule.not_stage)
    )
