"""Bringing data layers to where they were: what Caffe itself does not do on a resume (BVLC/caffe#1059).

A Data layer starts at record 0 and cannot be told otherwise. But it can be run forward on its own, which reads
and transforms batches and computes nothing: after as many batches as the interrupted run had used, its cursor and
its random crops and mirrors are exactly where they were, given the same seed when it was built.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caffebench.common.caffe_facts import DATA_LAYERS
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.data.records import count_records
from caffebench.launcher.solver.nets import parameters_of

__all__ = ["BUDGET", "forward_data"]

BUDGET = 60.0
"""Seconds that an exact fast-forward may take before ``auto`` settles for the order of records."""
SOURCES = (*DATA_LAYERS, "Python")
LOADER = "caffebench.launcher.data.loader"
PROBE = 20
RECORDS = 200_000
"""Of several processes each would take its own time and might choose otherwise, so ``auto`` counts records there."""


def forward_data(
    net: Any, layers: Sequence[Any], batches: int, mode: str, *, train: bool = False, ranks: int = 1
) -> str:
    """Run the data layers of ``net`` forward to where ``batches`` batches have been used.

    ``layers`` are the ``LayerParameter`` that the net was built from, ``mode`` one of ``exact``, ``order``
    (whole records only, within one pass over the data), ``auto`` (exact if it takes less than ``BUDGET`` seconds) and
    ``caffe`` (leave them at record 0, as Caffe does). ``train`` says that it is the train net, whose data ``ranks``
    processes share.
    Returns what could not be restored, in words; else nothing.
    """
    if mode == "caffe":
        return "data layers start at record 0" if batches else ""
    lost = []
    for index, (layer, parameter) in enumerate(zip(net.layers, parameters_of(net, layers), strict=True)):
        if layer.type not in SOURCES or len(net._bottom_ids(index)):
            continue
        if parameter is not None and parameter.python_param.module == LOADER:
            continue  # our own layer was told where to begin
        if what := _forward_layer(net, index, parameter, batches, mode, train, ranks):
            lost.append(f"{net._layer_names[index]}: {what}")
    return "; ".join(lost)


def _forward_layer(net: Any, index: int, layer: Any, batches: int, mode: str, train: bool, ranks: int) -> str:
    """Run one data layer forward; what could not be restored, in words."""
    if layer is None or layer.type != "Data" or layer.data_param.backend != caffe_pb2().DataParameter.LMDB:
        for _ in range(batches):
            net._forward(index, index)
        return ""
    # Of several processes that train one net, each reads past the records of the others.
    size = int(layer.data_param.batch_size) * ranks
    records = count_records(Path(layer.data_param.source))
    transform = layer.transform_param
    random = bool(transform.mirror or (transform.crop_size and train))
    # Without random transforms the layer's state is its cursor, which comes round.
    needed = batches if random else batches % (records // math.gcd(records, size))
    if mode == "auto" and ranks > 1:
        mode = "exact" if needed * size <= RECORDS else "order"
    done = 0
    if mode != "order":
        start = time.monotonic()
        while done < needed:
            net._forward(index, index)
            done += 1
            if mode == "auto" and done == PROBE and (time.monotonic() - start) / PROBE * needed > BUDGET:
                break
        if done == needed:
            return ""
    remaining = (batches * size - done * size) % records
    for _ in range(remaining // size):
        net._forward(index, index)
    lost = []
    if random:
        lost.append("random crops and mirrors are drawn anew")
    if remaining % size:
        lost.append(f"{remaining % size} records come once more")
    return ", ".join(lost)
