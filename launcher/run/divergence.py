"""Is a run beyond hope? Rules on its training loss, and on what it ends with. In the training process."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from caffebench.common.caffe_facts import DEAD_SOFTMAX, SOFTMAX_LOSSES
from caffebench.launcher.solver.nets import built_layers, channels

__all__ = ["Divergence", "LossReader", "TestLoss", "chance_loss", "layer_not_finite"]

DEAD_FOR = 3
FAR, FAR_FOR, FAR_SHARE = 3.0, 20, 0.05
"""Beyond hope: FAR times the loss of guessing, FAR_FOR checks in a row and for that share of all iterations."""


class LossReader:
    """The loss of a train net's latest forward pass, weighted and added up as Caffe does."""

    def __init__(self, net: Any) -> None:
        """Find the blobs of ``net`` that its layers count as losses."""
        weights = enumerate(net._blob_loss_weights)
        self._losses = [(net._blobs[index], weight) for index, weight in weights if weight]

    def read(self) -> float:
        """The loss now; 0 for a net without one."""
        return float(sum(weight * blob.data.sum() for blob, weight in self._losses))


class TestLoss:
    """Whether the loss of a test was a number in each of its batches."""

    def __init__(self, net: Any) -> None:
        """Watch the test net ``net``."""
        self._loss = LossReader(net)
        self._iteration, self._finite = -1, True

    def before_batch(self, iteration: int) -> None:
        """A batch of the test at ``iteration`` is to be run: check the one before."""
        self._finite = self.finite_at(iteration)
        self._iteration = iteration

    def finite_at(self, iteration: int) -> bool:
        """Whether all batches of the test at ``iteration`` had a loss that is a number."""
        return self._iteration != iteration or (self._finite and math.isfinite(self._loss.read()))


def layer_not_finite(net: Any) -> str | None:
    """The first layer of a net whose weights, or statistics, are not all finite numbers."""
    for name, blobs in net.params.items():
        if not all(np.isfinite(blob.data).all() for blob in blobs):
            return str(name)
    return None


def chance_loss(parameter: Any) -> float | None:
    """The loss of guessing, from a ``SolverParameter``: ln(classes), times the weight, of each softmax loss.

    None where the training net has another loss, whose size nobody knows; one that is a sum, not a mean, over labels
    (FCN's ``normalize: false``); or one whose number of classes cannot be told.
    """
    layers, total = built_layers(parameter), 0.0
    for layer, count in zip(layers, channels(layers), strict=True):
        weights = list(layer.loss_weight) or ([1.0] if layer.type.endswith("Loss") else [])
        if not any(weights):
            continue
        classes = count.get(layer.bottom[0], 0) if layer.bottom else 0
        if layer.type not in SOFTMAX_LOSSES or classes < 2 or not _is_mean(layer.loss_param):
            return None
        total += weights[0] * math.log(classes)
    return total or None


def _is_mean(loss_param: Any) -> bool:
    """Whether a softmax loss is divided by the number of labels (``softmax_loss_layer.cpp``)."""
    if loss_param.HasField("normalization") or not loss_param.HasField("normalize"):
        return loss_param.normalization in (loss_param.VALID, loss_param.FULL)
    return bool(loss_param.normalize)


class Divergence:
    """Watches the losses of one session."""

    def __init__(self, chance: float | None, max_iter: int) -> None:
        """``chance`` is the loss of guessing (None: unknown), ``max_iter`` the length of the run."""
        self.chance, self.max_iter = chance, max_iter
        self._dead = 0
        self._far: list[int] = []

    def update(self, iteration: int, loss: float) -> str | None:
        """Take in the loss of an iteration, one look later than the one before: the reason to give up, if any."""
        if not math.isfinite(loss):
            return f"the loss is {loss} at iteration {iteration}"
        self._dead = self._dead + 1 if math.isclose(loss, DEAD_SOFTMAX, rel_tol=1e-4) else 0
        if self._dead >= DEAD_FOR:
            return f"the loss is {DEAD_SOFTMAX}, that of a dead softmax, up to iteration {iteration}"
        if self.chance is None or loss < FAR * self.chance:
            self._far.clear()
            return None
        self._far.append(iteration)
        if len(self._far) >= FAR_FOR and iteration - self._far[0] >= FAR_SHARE * self.max_iter:
            return (
                f"the loss ({loss:.4g} at iteration {iteration}) has been over {FAR:g} times that of guessing "
                f"({self.chance:.4g}) since iteration {self._far[0]}"
            )
        return None
