"""Bringing a solver to where training begins: initialised anew, or restored from a snapshot. In the child."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from caffebench.common.errors import InputError
from caffebench.launcher.cursor import forward_data
from caffebench.launcher.divergence import Divergence, chance_loss
from caffebench.launcher.plan import Plan
from caffebench.launcher.schedule import Phase, learning_rate
from caffebench.launcher.seeds import derive_seed
from caffebench.launcher.snapshots import Record, read_record, read_weights, restorable
from caffebench.launcher.solverfile import data_layers, parse_solver
from caffebench.launcher.training import Training

__all__ = ["Say", "start"]

Say = Callable[[str, dict[str, Any]], None]


def start(
    caffe: Any,
    plan: Plan,
    phase: Phase,
    *,
    seed: int,
    resume_from: int | None,
    changed: list[str],
    say: Say,
    rank: int = 0,
) -> Training:
    """Build the solver of a phase and bring it to ``resume_from`` (None: the very beginning).

    Of several GPUs' processes, rank 0 tests, initialises and writes snapshots; it hands its weights to the others.
    Raises ``InputError`` where the snapshot or the weights belong to another network.
    """
    paths = plan.paths
    parameter = parse_solver(plan.solver, plan.prototxt)
    phase.apply(parameter)
    batch_size = _batch_size(parameter)
    record = None if resume_from is None else _record(plan, parameter, resume_from, batch_size, seed)
    parameter.snapshot_prefix = str(paths.partial / plan.run)
    # The data layers draw the seeds of their crops and mirrors when they are built: always the same ones.
    parameter.random_seed = seed
    parameter.ClearField("weights")
    schedule = learning_rate(plan.header, parameter.base_lr, parameter.max_iter)
    if schedule is not None:
        parameter.lr_policy = "fixed"  # Caffe applies, and logs, the base_lr that it is given at each iteration
    if workers := plan.loader_workers:
        begin = record.train_batches if record and plan.resume != "caffe" else 0
        from caffebench.launcher.loader import replace_data_layer

        for layer in data_layers(parameter, "TRAIN"):
            replace_data_layer(layer, workers=workers, seed=seed, start=begin, rank=rank, ranks=max(len(plan.gpus), 1))
    # Seeding is cheap on the CPU; on a GPU it makes cuRAND build its state anew, so only at snapshots.
    stride = (parameter.snapshot or parameter.max_iter) if plan.gpus else 1
    if len(plan.gpus) > 1 and parameter.iter_size > 1:
        # Caffe would add up the layers' gradients over the GPUs after each part of the batch, while the next one is
        # already adding to them; once, before the update, is enough.
        parameter.layer_wise_reduce = False
    if rank:
        for field in ("test_iter", "test_interval", "test_net", "test_net_param", "test_state", "snapshot"):
            parameter.ClearField(field)
    solver = _open_solver(caffe, _text(parameter))
    training = Training(
        caffe=caffe,
        solver=solver,
        parameter=parameter,
        text=plan.solver,
        paths=paths,
        seed=seed,
        stride=stride,
        train_batches=0,
        test_batches=[0] * len(solver.test_nets),
        batch_size=batch_size,
        keep=plan.keep_snapshots,
        learning_rate=schedule,
        divergence=None if plan.keep_going or rank else Divergence(chance_loss(parameter), plan.max_iter),
        rank=rank,
    )
    if record is not None:
        _restore(training, plan, record, changed, say)
    elif plan.weights:
        _load_weights(training, plan.weights)
    elif plan.init != "none" and rank == 0:
        _initialise(training, plan.init, say)
    elif plan.init in ("lsuv", "ortho-lsuv"):
        forward_data(solver.net, parameter, "TRAIN", 1, "exact", len(plan.gpus))  # as rank 0 does
    training.start = int(solver.iter)
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


def _load_weights(training: Training, names: tuple[str, ...]) -> None:
    for name in names:
        _check_shapes(training.solver.net, Path(name), must_all_fit=False)
        training.caffe.log(f"Finetuning from {name}")
        training.solver.net.copy_from(name)


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


def _record(plan: Plan, parameter: Any, iteration: int, batch_size: int, seed: int) -> Record:
    """What was used up to a snapshot, in batches of the present size.

    Without a record, of ``caffe train`` say: what an uninterrupted run would have used.
    """
    record = read_record(plan.paths.snapshot(iteration).record)
    if record is None:
        every = parameter.test_interval
        tests = -(-iteration // every) - (0 if parameter.test_initialization else 1) if every else 0
        return Record(
            iteration=iteration,
            seed=seed,
            train_batches=iteration * parameter.iter_size,
            test_batches=tuple(max(tests, 0) * number for number in parameter.test_iter),
            batch_size=batch_size,
            state_bytes=0,
            model_bytes=0,
            solver=plan.solver,
        )
    if batch_size and record.batch_size != batch_size:
        used = record.train_batches * record.batch_size // batch_size
        record = replace(record, train_batches=used, batch_size=batch_size)
    return record


def _restore(training: Training, plan: Plan, record: Record, changed: list[str], say: Say) -> None:
    iteration = record.iteration
    snapshot = plan.paths.snapshot(iteration)
    _check_shapes(training.solver.net, snapshot.model, must_all_fit=True)
    state = restorable(plan.paths, iteration)
    training.caffe.log(f"Resuming from {snapshot.state}")
    training.solver.restore(str(state))
    training.train_batches = record.train_batches
    training.test_batches[:] = record.test_batches[: len(training.test_batches)]
    positions = {
        "training records": forward_data(
            training.solver.net, training.parameter, "TRAIN", record.train_batches, plan.resume, max(len(plan.gpus), 1)
        )
    }
    for number, (net, batches) in enumerate(zip(training.solver.test_nets, record.test_batches, strict=False)):
        name = "test records" if number == 0 else f"test records of net {number}"
        positions[name] = forward_data(net, training.parameter, "TEST", batches, plan.resume)
    restored = ["weights", "solver state", *(name for name, lost in positions.items() if not lost)]
    not_restored = [f"{name} ({lost})" for name, lost in positions.items() if lost]
    if iteration % training.stride == 0:
        restored.append("random streams")
    else:
        not_restored.append("random streams (seeded anew)")
    say(
        "resume",
        {
            "iteration": iteration,
            "snapshot": str(snapshot.state),
            "restored": restored,
            "not_restored": not_restored,
            "changed": changed,
        },
    )
