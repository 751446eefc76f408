"""The orders of shuffled HDF5Data layers, kept apart from each other, so that each can be brought back alone.

Caffe shuffles their records with C's one ``rand()`` (``hdf5_data_layer.cpp``), from which the layers of all nets draw
as they come round: with several of them, the order of each depends on when the others were read. So they draw from
seeds of their own, one for each batch. A single one, in all nets, draws as under plain Caffe.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from caffebench.launcher.solver.nets import built_layers, built_nets, parameters_of
from caffebench.launcher.state.seeds import derive_seed

__all__ = ["begin_orders", "keep_orders_apart", "several_orders"]


def several_orders(parameter: Any) -> bool:
    """Whether the nets of a ``SolverParameter`` have more than one shuffled HDF5Data layer."""
    return sum(_shuffles(layer) for net in built_nets(parameter) for layer in net.layers) > 1


def begin_orders() -> None:
    """Have C's generator begin as in a new process: a session may build a solver for each phase, and resume at any."""
    ctypes.CDLL(None).srand(1)


def keep_orders_apart(solver: Any, parameter: Any, seed: int) -> None:
    """Have each shuffled HDF5Data layer of a solver draw from (seed, net, layer, batch). Before any net is run."""
    nets = [(solver.net, None), *((net, number) for number, net in enumerate(solver.test_nets))]
    for net, number in nets:
        found = parameters_of(net, built_layers(parameter, number))
        shuffled = [index for index, layer in enumerate(found) if layer is not None and _shuffles(layer)]
        if shuffled:
            net.before_forward(_seeding(derive_seed(seed, -2 if number is None else number), shuffled))


def _seeding(seed: int, layers: Sequence[int]) -> Callable[[int], None]:
    used = dict.fromkeys(layers, 0)
    srand = ctypes.CDLL(None).srand

    def before_layer(layer: int) -> None:
        if layer in used:
            srand(derive_seed(seed, used[layer], layer))
            used[layer] += 1

    return before_layer


def _shuffles(layer: Any) -> bool:
    return layer.type == "HDF5Data" and bool(layer.hdf5_data_param.shuffle)
