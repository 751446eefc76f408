"""Layer-sequential unit-variance initialisation of a Caffe net, in one forward pass and one check."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

__all__ = ["METHODS", "initialise"]

METHODS = ("lsuv", "ortho", "ortho-lsuv")


def initialise(
    net: Any,
    *,
    method: str,
    seed: int,
    report: Callable[[dict[str, Any]], None] | None = None,
    keep: Collection[str] = (),
) -> None:
    """Initialise the weights of every convolution and inner product of ``net`` (a ``caffe.Net`` of phase TRAIN).

    ``report`` gets one dict of JSON values for each layer with parameters, in net order, when all is done:
    ``{"layer", "type", "shape", "variance_before", "variance_after", "scale"}`` for an initialised one (the last
    three are None with ``ortho``, which runs no forward pass), ``{"layer", "type", "skipped": reason}`` for another.
    Layers named in ``keep`` (frozen, or loaded from a file) are left as they are.

    ``lsuv`` takes exactly one batch from the net's data layers (``ortho`` none) and calls
    ``caffe.set_random_seed``: seed again before training. Raises ``CaffebenchError`` where a layer's output has
    no variance, ``InputError`` for an unknown method.
    """
    raise NotImplementedError
