"""Bringing a solver to where training begins: initialised anew, or restored from a snapshot. In the child."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from caffebench.common.child_process import memory_file
from caffebench.common.events import Event
from caffebench.launcher.init.finetuning import load_weights
from caffebench.launcher.plan.labels import check_built_labels
from caffebench.launcher.plan.plan import Plan
from caffebench.launcher.plan.pythonlayers import import_python_layers
from caffebench.launcher.run.divergence import Divergence, chance_loss
from caffebench.launcher.run.stopping import TrainingStop
from caffebench.launcher.run.training import Training
from caffebench.launcher.solver.nets import built_layers, train_data_layers
from caffebench.launcher.solver.schedule import Phase, learning_rate
from caffebench.launcher.solver.solverfile import parse_solver
from caffebench.launcher.state.data_fast_forward import forward_data
from caffebench.launcher.state.datastate import data_states
from caffebench.launcher.state.hdf5_order import begin_orders, keep_orders_apart, several_orders
from caffebench.launcher.state.python_state import seed_random
from caffebench.launcher.state.restoring import ResumePoint, find_point, restore
from caffebench.launcher.state.seeds import derive_seed

__all__ = ["open_solver", "prepare_solver"]


def prepare_solver(
    caffe: Any,
    plan: Plan,
    phase: Phase,
    *,
    seed: int,
    resume_from: int | None,
    changed: Sequence[str] = (),
    rank: int = 0,
    stop: TrainingStop | None = None,
    report: Callable[[Event], None] = lambda _event: None,
    before_snapshot: Callable[[int], None] = lambda _iteration: None,
) -> Training:
    """Build the solver of a phase and bring it to ``resume_from`` (None: the very beginning).

    Of several GPUs' processes, rank 0 tests, initialises and writes snapshots; it hands its weights to the others.
    ``report`` gets the events of the start. Raises ``InputError`` where the snapshot or the weights belong to another
    network.
    """
    paths = plan.paths
    parameter = parse_solver(plan.solver, plan.prototxt)
    phase.apply(parameter)
    ranks = max(len(plan.gpus), 1)
    data = data_states(parameter, len(parameter.test_iter))
    point = None if resume_from is None else find_point(paths, parameter, resume_from, seed, data)
    parameter.snapshot_prefix = str(paths.partial / plan.run)
    # The data layers draw the seeds of their crops and mirrors when they are built: always the same ones.
    parameter.random_seed = seed
    parameter.ClearField("weights")
    schedule = learning_rate(plan.header, parameter.base_lr, parameter.max_iter)
    if schedule is not None:
        parameter.lr_policy = "fixed"  # Caffe applies, and logs, the base_lr that it is given at each iteration
    _use_loader(parameter, plan, point, seed=seed, rank=rank, ranks=ranks)
    # Seeding is cheap on the CPU; on a GPU it makes cuRAND build its state anew, so only at snapshots.
    stride = (parameter.snapshot or parameter.max_iter) if plan.gpus else 1
    if len(plan.gpus) > 1 and parameter.iter_size > 1:
        # Caffe would add up the layers' gradients over the GPUs after each part of the batch, while the next one is
        # already adding to them; once, before the update, is enough.
        parameter.layer_wise_reduce = False
    several = several_orders(parameter)  # asked of all nets, so that all ranks have one answer
    if rank:
        for field in ("test_iter", "test_interval", "test_net", "test_net_param", "test_state", "snapshot"):
            parameter.ClearField(field)
    begin_orders()
    seed_random(derive_seed(seed, -3, rank))
    import_python_layers(parameter)  # a module may seed itself
    solver = open_solver(caffe, parameter)
    if several:
        keep_orders_apart(solver, parameter, seed)
    if not rank:
        check_built_labels(solver, plan.label_uses)
    train_batches, test_batches = 0, [0] * len(solver.test_nets)
    if point is not None:
        report(
            restore(
                caffe,
                solver,
                parameter,
                point,
                paths=paths,
                mode=plan.resume,
                stride=stride,
                ranks=ranks,
                changed=changed,
            )
        )
        train_batches, test_batches = point.train_batches, list(point.test_batches[: len(solver.test_nets)])
    elif plan.weights:
        report(load_weights(caffe, solver.net, plan.weights))
    elif plan.init != "none" and rank == 0:
        train_batches = _initialise(solver, parameter, plan.init, seed, report)
    elif plan.init in ("lsuv", "ortho-lsuv"):
        forward_data(solver.net, built_layers(parameter), 1, "exact", train=True, ranks=ranks)  # as rank 0 does
    return Training(
        caffe=caffe,
        solver=solver,
        parameter=parameter,
        text=plan.solver,
        paths=paths,
        seed=seed,
        stride=stride,
        train_batches=train_batches,
        test_batches=test_batches,
        data=data,
        keep=plan.keep_snapshots,
        learning_rate=schedule,
        identity=plan.identity,
        layers=plan.layers or "caffe",
        divergence=None if plan.keep_going or rank else Divergence(chance_loss(parameter), plan.max_iter),
        start=int(solver.iter),
        rank=rank,
        before_snapshot=before_snapshot,
        stop=stop or TrainingStop(),
    )


def open_solver(caffe: Any, parameter: Any) -> Any:
    """Build the solver of a ``SolverParameter``; pycaffe takes only a file, which need not be on a disk."""
    from google.protobuf import text_format

    with memory_file("solver.prototxt", text_format.MessageToString(parameter).encode()) as descriptor:
        return caffe.get_solver(f"/proc/self/fd/{descriptor}")


def _use_loader(parameter: Any, plan: Plan, point: ResumePoint | None, *, seed: int, rank: int, ranks: int) -> None:
    """Put data-loading workers in the place of the train net's data layers, where the header asks for them."""
    if workers := plan.loader_workers:
        from caffebench.launcher.data.loader import replace_data_layer

        begin = point.train_batches if point and plan.resume != "caffe" else 0
        for layer in train_data_layers(parameter):
            replace_data_layer(layer, workers=workers, seed=seed, start=begin, rank=rank, ranks=ranks)


def _initialise(solver: Any, parameter: Any, method: str, seed: int, report: Callable[[Event], None]) -> int:
    """Initialise the weights: the number of batches of the train net that this has used."""
    from caffebench.launcher.init.lsuv import frozen_layers, initialise

    keep = frozen_layers(built_layers(parameter))
    initialise(solver.net, method=method, seed=derive_seed(seed, -1), report=report, keep=keep)
    return 0 if method == "ortho" else 1  # the fixed batch that the variances were measured on
