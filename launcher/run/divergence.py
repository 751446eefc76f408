"""Is a run beyond hope? Rules on its training loss, and on what it ends with. In the training process."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from caffebench.common.caffe_facts import DEAD_SOFTMAX

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

    None where there is no softmax loss or its number of classes cannot be told.
    """
    net = parameter.train_net_param if parameter.HasField("train_net_param") else parameter.net_param
    outputs = {}
    for layer in net.layer:
        if layer.type == "InnerProduct":
            outputs[layer.top[0]] = layer.inner_product_param.num_output
        elif layer.type == "Convolution":
            outputs[layer.top[0]] = layer.convolution_param.num_output
        elif layer.bottom and layer.top and layer.bottom[0] in outputs:
            outputs[layer.top[0]] = outputs[layer.bottom[0]]
    losses = [
        (layer.loss_weight[0] if layer.loss_weight else 1.0) * math.log(outputs[layer.bottom[0]])
        for layer in net.layer
        if layer.type == "SoftmaxWithLoss" and outputs.get(layer.bottom[0], 0) > 1
    ]
    return sum(losses) or None


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
