"""Bringing a solver to where training begins: initialised anew, or restored from a snapshot. In the child."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caffebench.common.errors import InputError
from caffebench.launcher.cursor import Position, forward_data
from caffebench.launcher.plan import Plan
from caffebench.launcher.seeds import derive_seed
from caffebench.launcher.snapshots import Record, read_record, read_weights, restorable
from caffebench.launcher.solverfile import data_layers
from caffebench.launcher.training import Training

__all__ = ["Say", "start"]

Say = Callable[[str, dict[str, Any]], None]


def start(
    caffe: Any, plan: Plan, parameter: Any, *, seed: int, resume_from: int | None, changed: list[str], say: Say
) -> Training:
    """Build the solver and bring it to ``resume_from`` (None: the very beginning).

    ``parameter`` is the plan's ``SolverParameter``, which is completed here. Raises ``InputError`` where the
    snapshot or the weights belong to another network.
    """
    paths = plan.paths
    parameter.snapshot_prefix = str(paths.partial / plan.run)
    # The data layers draw the seeds of their crops and mirrors when they are built: always the same ones.
    parameter.random_seed = seed
    parameter.ClearField("weights")
    solver = _open_solver(caffe, _text(parameter))
    training = Training(
        caffe=caffe,
        solver=solver,
        parameter=parameter,
        text=plan.solver,
        paths=paths,
        seed=seed,
        # Seeding is cheap on the CPU; on a GPU it makes cuRAND build its state anew, so only at snapshots.
        stride=(parameter.snapshot or parameter.max_iter) if plan.gpus else 1,
        train_batches=0,
        test_batches=[0] * len(solver.test_nets),
        batch_size=_batch_size(parameter),
        keep=plan.keep_snapshots,
    )
    if resume_from is not None:
        _restore(training, plan, resume_from, changed, say)
    elif plan.weights is not None:
        _load_weights(training, Path(plan.weights))
    elif plan.init != "none":
        _initialise(training, plan.init, say)
    training.begin()
    return training


def _open_solver(caffe: Any, text: str) -> Any:
    """Build a solver from prototxt text; pycaffe takes only a file, which need not be on a disk."""
    descriptor = os.memfd_create("solver.prototxt")
    try:
        os.write(descriptor, text.encode())
        return caffe.get_solver(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _text(parameter: Any) -> str:
    from google.protobuf import text_format

    return str(text_format.MessageToString(parameter))


def _batch_size(parameter: Any) -> int:
    layers = data_layers(parameter, "TRAIN")
    return int(layers[0].data_param.batch_size) if layers else 0


def _initialise(training: Training, method: str, say: Say) -> None:
    from caffebench.launcher.lsuv import frozen_layers, initialise

    parameter = training.parameter
    net = parameter.train_net_param if parameter.HasField("train_net_param") else parameter.net_param
    initialise(
        training.solver.net,
        method=method,
        seed=derive_seed(training.seed, -1),
        report=lambda layer: say("init", {"method": method, **layer}),
        keep=frozen_layers(net),
    )
    if method != "ortho":
        training.train_batches = 1  # the fixed batch that the variances were measured on


def _load_weights(training: Training, path: Path) -> None:
    _check_shapes(training.solver.net, path, must_all_fit=False)
    training.caffe.log(f"Finetuning from {path}")
    training.solver.net.copy_from(str(path))


def _check_shapes(net: Any, path: Path, *, must_all_fit: bool) -> None:
    """Compare a ``.caffemodel`` with a net, layer by layer. Raises ``InputError`` with the first that differs.

    Fine-tuning may leave layers out on both sides (that is how a new classifier is trained), a resume may not.
    """
    saved = read_weights(path).shapes
    wanted = {name: [tuple(blob.shape) for blob in net.params[name]] for name in net.params}
    for name, shapes in wanted.items():
        if name not in saved:
            if must_all_fit:
                raise InputError(f"{path} is of another network: it has no layer {name}; {WAY_OUT}")
        elif [_squeeze(shape) for shape in saved[name]] != [_squeeze(shape) for shape in shapes]:
            raise InputError(
                f"{path} is of another network: its layer {name} has shapes {_show(saved[name])}, "
                f"this net's {_show(shapes)}; {WAY_OUT if must_all_fit else 'rename the layer to leave it out'}"
            )
    surplus = sorted(saved.keys() - wanted.keys())
    if must_all_fit and surplus:
        raise InputError(f"{path} is of another network: this net has no layer {surplus[0]}; {WAY_OUT}")
    if not saved.keys() & wanted.keys():
        raise InputError(f"{path} has no layer in common with this net, so it would change nothing")


WAY_OUT = "start over with --fresh, or choose another folder with --snapshots DIR"


def _squeeze(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shapes as Caffe compares them: its old files pad with leading ones."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _show(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes)


def _restore(training: Training, plan: Plan, iteration: int, changed: list[str], say: Say) -> None:
    snapshot = plan.paths.snapshot(iteration)
    _check_shapes(training.solver.net, snapshot.model, must_all_fit=True)
    state = restorable(plan.paths, iteration)
    training.caffe.log(f"Resuming from {snapshot.state}")
    training.solver.restore(str(state))
    record = read_record(snapshot.record) or _guess_record(training, iteration)
    restored = ["weights", "solver state"]
    lost: list[str] = []
    train = forward_data(training.solver.net, training.parameter, "TRAIN", record.train_batches, plan.resume)
    training.train_batches = record.train_batches
    tests = [Position()]
    for net, batches in zip(training.solver.test_nets, record.test_batches, strict=False):
        tests.append(forward_data(net, training.parameter, "TEST", batches, plan.resume))
    training.test_batches = list(record.test_batches)
    for what, position in (("training records", train), *(("test records", test) for test in tests[1:])):
        (restored if position.restored else lost).append(what if position.restored else f"{what} ({position.lost})")
    if training.stride == 1 or iteration % training.stride == 0:
        restored.append("random streams")
    else:
        lost.append("random streams (seeded anew)")
    say(
        "resume",
        {
            "iteration": iteration,
            "snapshot": str(snapshot.state),
            "restored": restored,
            "not_restored": lost,
            "changed": changed,
        },
    )


def _guess_record(training: Training, iteration: int) -> Record:
    """What an uninterrupted run of plain Caffe would have used up to ``iteration``."""
    parameter = training.parameter
    every = parameter.test_interval
    tests = -(-iteration // every) - (0 if parameter.test_initialization else 1) if every else 0
    return Record(
        iteration=iteration,
        seed=training.seed,
        train_batches=iteration * parameter.iter_size,
        test_batches=tuple(max(tests, 0) * number for number in parameter.test_iter),
        batch_size=training.batch_size,
        state_bytes=0,
        model_bytes=0,
        solver=training.text,
    )
