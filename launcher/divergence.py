"""Is a run beyond hope? Rules on the displayed training loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["Divergence", "chance_loss"]

DEAD_SOFTMAX = 87.3365
"""-log(FLT_MIN): the loss of a softmax that is certain and wrong for every image."""
DEAD_FOR = 3
FAR, FAR_FOR, FAR_SHARE = 3.0, 20, 0.05
"""Beyond hope: FAR times the loss of guessing, FAR_FOR displays in a row and for that share of all iterations."""


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
    """Watches the displayed losses of one session."""

    def __init__(self, chance: float | None, max_iter: int) -> None:
        """``chance`` is the loss of guessing (None: unknown), ``max_iter`` the length of the run."""
        self.chance, self.max_iter = chance, max_iter
        self._dead = 0
        self._far: list[int] = []

    def look(self, losses: Sequence[tuple[int, float]]) -> str | None:
        """Take in newly displayed (iteration, loss): the reason to give up, if there is one."""
        for iteration, loss in losses:
            if not math.isfinite(loss):
                return f"the loss is {loss} at iteration {iteration}"
            self._dead = self._dead + 1 if math.isclose(loss, DEAD_SOFTMAX, rel_tol=1e-4) else 0
            if self._dead >= DEAD_FOR:
                return f"the loss is 87.3365, that of a dead softmax, up to iteration {iteration}"
            if self.chance is None or loss < FAR * self.chance:
                self._far.clear()
                continue
            self._far.append(iteration)
            if len(self._far) >= FAR_FOR and iteration - self._far[0] >= FAR_SHARE * self.max_iter:
                return (
                    f"the loss ({loss:.4g} at iteration {iteration}) has been over {FAR:g} times that of guessing "
                    f"({self.chance:.4g}) since iteration {self._far[0]}"
                )
        return None
