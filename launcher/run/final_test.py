"""A test on the weights as they are, for runs whose ``test_interval`` does not come round at their last iteration.

Caffe's ``Solver::TestAll`` cannot be called from outside; this does the same and puts the same lines into the log.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["run_tests"]


def run_tests(caffe: Any, solver: Any, parameter: Any) -> list[float]:
    """Test with every test net, as often as ``test_iter`` of the ``SolverParameter`` says: the loss of each."""
    return [_test_net(caffe, solver, parameter, number, net) for number, net in enumerate(solver.test_nets)]


def _test_net(caffe: Any, solver: Any, parameter: Any, number: int, net: Any) -> float:
    caffe.log(f"Iteration {solver.iter}, Testing net (#{number})")
    net.share_with(solver.net)
    outputs = [net._blobs[index] for index in net._outputs]
    last = len(net.layers) - 1
    count, loss = parameter.test_iter[number], 0.0
    sums = [np.zeros(blob.count) for blob in outputs]
    for _ in range(count):
        loss += net._forward(0, last)
        for total, blob in zip(sums, outputs, strict=True):
            total += blob.data.reshape(-1)
    if parameter.test_compute_loss:
        caffe.log(f"Test loss: {loss / count:g}")
    line = 0
    for index, total in zip(net._outputs, sums, strict=True):
        weight = net._blob_loss_weights[index]
        for value in total / count:
            weighted = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
            caffe.log(f"    Test net output #{line}: {net._blob_names[index]} = {value:g}{weighted}")
            line += 1
    return float(loss / count)
