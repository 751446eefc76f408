"""What the backward pass of each layer reads, and so what may be written over: in-place work that is right.

From ``Backward_cpu`` of ``src/caffe/layers/*.cpp``. A layer *works in place* where it writes under the name that it
reads; the blob that it read is then gone, for itself and for the layer that wrote it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["WORK_IN_PLACE", "in_place", "spoils", "spoils_itself"]

# Right in place: what they need of their bottom they keep (BatchNorm, Scale, PReLU, Dropout's mask), read from their
# top (ELU, Sigmoid, TanH), or tell by its sign (ReLU).
WORK_IN_PLACE = {"BatchNorm", "Dropout", "ELU", "PReLU", "ReLU", "Scale", "Sigmoid", "TanH"}
# Read their top: nobody may write over it.
_READ_THEIR_TOP = {"ELU", "Exp", "LRN", "Sigmoid", "Softmax", "Swish", "TanH"}
# Read their bottom, and so in place what they wrote; the sign is all that a ReLU needs.
_READ_THEIR_BOTTOM = {"ReLU", "BNLL", "Clip", "AbsVal", "Log"}


def in_place(layer: Any) -> bool:
    """Whether a layer writes over what it reads."""
    return bool(set(layer.bottom) & set(layer.top))


def spoils_itself(layer: Any) -> bool:
    """Whether a layer, in place, reads in its backward pass a bottom that is no more what it was.

    Clip's own bounds count as inside, so in place its gradient goes through where it has cut.
    """
    if layer.type == "Power":
        return layer.power_param.power not in (0, 1)
    if layer.type == "ReLU":
        return bool(layer.relu_param.negative_slope < 0)
    if layer.type == "ELU":
        return bool(layer.elu_param.alpha < 0)
    return layer.type in _READ_THEIR_BOTTOM


def spoils(writer: Any, layer: Any) -> bool:
    """Whether ``writer``, in place, writes over what the backward pass of ``layer``, which wrote it before, reads."""
    if layer.type == "ReLU" and in_place(layer) and writer.type in ("Dropout", "ReLU"):
        # Both keep the sign, or make it 0 where they stop the gradient themselves.
        return bool(layer.relu_param.negative_slope)
    if layer.type == "Eltwise":
        product = layer.eltwise_param.operation == layer.eltwise_param.PROD
        return bool(product and not layer.eltwise_param.stable_prod_grad)
    if layer.type == "Power":
        power = layer.power_param.power  # of 2 the slope is told from the bottom alone
        return power not in (0, 1) and (power != 2 or in_place(layer))
    return layer.type in _READ_THEIR_TOP or (layer.type in _READ_THEIR_BOTTOM and in_place(layer))
