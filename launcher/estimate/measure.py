"""A few steps of a run, for what it would take: ``python -m caffebench.launcher.estimate.measure FD``.

The child process reads its plan from the file FD and writes nothing but one line of JSON to standard output, a
``Measured`` for each phase. Data that are not there are replaced by numbers of their shape, so that a study can be
planned where its data are not.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from caffebench.common.caffe_facts import SOLVER_HISTORIES
from caffebench.common.child_process import read_task
from caffebench.engine.speed import seconds_of
from caffebench.launcher.estimate.measured import Measured
from caffebench.launcher.plan.datacheck import expected_shape
from caffebench.launcher.plan.plan import Plan
from caffebench.launcher.solver.nets import data_layers, train_data_layers
from caffebench.launcher.solver.schedule import Phase, parse_phases
from caffebench.launcher.solver.solverfile import parse_solver, solver_type

__all__ = ["main"]

MEMORY_SHARE = 0.5
"""Of the memory that is available, for a net that is measured."""


def main() -> None:
    """Measure all phases of the plan."""
    from caffebench.engine.pycaffe import import_caffe
    from caffebench.launcher.run import ranks

    Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, then this process is the one to go
    plan = read_task(Plan, int(sys.argv[1]))
    sys.path += plan.python_path
    caffe = import_caffe()
    caffe.init_log(2, True)  # errors alone
    if plan.gpus:
        ranks.use_gpu(caffe, plan.gpus, 0)
    else:
        caffe.set_mode_cpu()
        if plan.layers == "fast":
            from caffebench.engine import fast

            fast.load()
    found = [asdict(_measure_phase(caffe, plan, phase)) for phase in parse_phases(plan.header, plan.max_iter)]
    print(json.dumps(found), flush=True)
    os._exit(0)  # joining Caffe's data threads can hang


def _measure_phase(caffe: Any, plan: Plan, phase: Phase) -> Measured:
    solver, parameter, synthetic = _build(caffe, plan, phase, 1)
    batch, need = _batch_size(solver), _bytes_of_nets(solver)
    room = MEMORY_SHARE * _available_memory()
    parts = 1 if plan.gpus else min(math.ceil(need / room), batch)
    if parts > 1:  # what is measured is a part of the batch: the whole would not fit into the memory
        del solver
        solver, parameter, synthetic = _build(caffe, plan, phase, parts)
    scale = batch / _batch_size(solver)
    seconds = scale * seconds_of(partial(solver.step, 1))
    test_seconds = 0.0
    for net, count in zip(solver.test_nets, parameter.test_iter, strict=True):
        test_seconds += count * scale * seconds_of(partial(net._forward, 0, len(net.layers) - 1), most=count)
    blobs = [blob for layer in solver.net.layers for blob in layer.blobs]
    sizes = {blob.data.__array_interface__["data"][0]: blob.count for blob in blobs}  # a shared one counts once
    history = SOLVER_HISTORIES.get(solver_type(parameter), 1)
    return Measured(
        until=phase.until,
        images=batch * parameter.iter_size * max(len(plan.gpus), 1),
        seconds=seconds,
        test_seconds=test_seconds,
        memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + need - _bytes_of_nets(solver),
        snapshot_bytes=4 * sum(sizes.values()) * (1 + history),
        synthetic=synthetic,
    )


def _build(caffe: Any, plan: Plan, phase: Phase, parts: int) -> tuple[Any, Any, bool]:
    """The solver of a phase, its parameter, and whether its training data are not there.

    Batches are divided into so many ``parts``. Caffe takes no memory for activations before the first step.
    """
    from caffebench.launcher.data.loader import replace_data_layer
    from caffebench.launcher.run.solver_setup import open_solver

    parameter = parse_solver(plan.solver, plan.prototxt)
    phase.apply(parameter)
    for layer in (*train_data_layers(parameter), *data_layers(parameter, "TEST")):
        layer.data_param.batch_size = max(layer.data_param.batch_size // parts, 1)
    synthetic = _replace_missing(parameter, plan.header)
    if workers := plan.loader_workers:
        for layer in train_data_layers(parameter):  # those that are there
            replace_data_layer(layer, workers=workers, seed=0, start=0, rank=0, ranks=1)
    parameter.snapshot = parameter.display = 0
    parameter.snapshot_after_train = parameter.test_initialization = False
    parameter.snapshot_prefix, parameter.lr_policy = "", "fixed"
    parameter.ClearField("weights")
    return open_solver(caffe, parameter), parameter, synthetic


def _batch_size(solver: Any) -> int:
    return int(next(iter(solver.net.blobs.values())).shape[0])  # data come first in a net


def _bytes_of_nets(solver: Any) -> int:
    """Bytes of all activations, and of the gradients of the train net."""
    train = 8 * sum(blob.count for blob in solver.net._blobs)
    return int(train + 4 * sum(blob.count for net in solver.test_nets for blob in net._blobs))


def _available_memory() -> int:
    """Bytes that this machine can give without swapping."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 if found else 1 << 33


def _replace_missing(parameter: Any, header: dict[str, Any]) -> bool:
    """Put numbers of the right shape in the place of data that are not there; whether the train net's are not."""
    missing = False
    for phase in ("TRAIN", "TEST"):
        for layer in data_layers(parameter, phase):
            shape = expected_shape(layer, header)
            if shape is None or Path(layer.data_param.source).exists():
                continue
            batch = layer.data_param.batch_size
            layer.type = "DummyData"
            for field in ("data_param", "transform_param"):
                layer.ClearField(field)
            layer.dummy_data_param.shape.add(dim=[batch, *shape])
            layer.dummy_data_param.data_filler.add(type="constant", value=0.5)
            for _ in layer.top[1:]:
                layer.dummy_data_param.shape.add(dim=[batch])
                layer.dummy_data_param.data_filler.add(type="constant", value=0)
            missing = missing or phase == "TRAIN"
    return missing


if __name__ == "__main__":
    main()
