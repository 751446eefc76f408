"""Bringing a solver to a snapshot, and telling what of the run's state came back. In the child.

What is listed as restored is as it was in a run that was never interrupted; all else is listed as not restored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffebench.common.errors import InputError
from caffebench.launcher.plan.plan import Plan
from caffebench.launcher.run.training import Training
from caffebench.launcher.solver.nets import built_layers
from caffebench.launcher.state.data_fast_forward import forward_data
from caffebench.launcher.state.datastate import in_batches_of, what_changed
from caffebench.launcher.state.record import DataState, read_record
from caffebench.launcher.state.snapshots import read_weights, restorable

__all__ = ["ResumePoint", "check_shapes", "find_point", "restore"]


@dataclass(frozen=True)
class ResumePoint:
    """Where a run goes on: an iteration, and the batches, of the present sizes, that were used up to it."""

    iteration: int
    train_batches: int
    test_batches: tuple[int, ...]
    lost: tuple[str, ...]
    """What is not as it was of the data of the train net and of each test net, in words; empty for what is."""
    streams_lost: str
    """The same of the random streams."""


def find_point(plan: Plan, parameter: Any, iteration: int, seed: int, data: Sequence[DataState]) -> ResumePoint:
    """Where the snapshot of ``iteration`` stands in ``data``, the data of this solver.

    Without a record, of ``caffe train`` say: where an uninterrupted run would stand.
    """
    tests = len(parameter.test_iter)
    record = read_record(plan.paths.snapshot(iteration).record)
    if record is None:
        every = parameter.test_interval
        done = -(-iteration // every) - (0 if parameter.test_initialization else 1) if every else 0
        return ResumePoint(
            iteration,
            iteration * parameter.iter_size,
            tuple(max(done, 0) * number for number in parameter.test_iter),
            ("taken for those of an uninterrupted run, as there is no record",) * (1 + tests),
            "seeded anew, as there is no record",
        )
    # A net that the snapshot did not have has used nothing.
    used = [record.train_batches, *record.test_batches, *[0] * (tests - len(record.test_batches))]
    lost = []
    for number, net in enumerate(["TRAIN", *(f"TEST#{k}" if k else "TEST" for k in range(tests))]):
        what = what_changed(record.data, data, net)
        if what:
            used[number] = 0
            what += ": read from the first one"
        else:
            old, new = (next((one.batch_size for one in states if one.net == net), 0) for states in (record.data, data))
            used[number], left = in_batches_of(used[number], old, new)
            what = f"{left} records come once more, the batch size has changed" if left else ""
        lost.append(what)
    streams = "" if seed == record.seed else f"of the seed {seed}, and no longer {record.seed}"
    return ResumePoint(iteration, used[0], tuple(used[1 : 1 + tests]), tuple(lost), streams)


def restore(
    training: Training,
    plan: Plan,
    point: ResumePoint,
    changed: list[str],
    say: Callable[[str, dict[str, Any]], None],
) -> None:
    """Restore the solver's state and run the data forward; ``say`` gets the event ``resume``, which tells of it.

    Raises ``InputError`` where the snapshot is of another network.
    """
    snapshot = plan.paths.snapshot(point.iteration)
    check_shapes(training.solver.net, snapshot.model, must_all_fit=True)
    state = restorable(plan.paths, point.iteration)
    training.caffe.log(f"Resuming from {snapshot.state}")
    training.solver.restore(str(state))
    training.train_batches = point.train_batches
    training.test_batches[:] = point.test_batches[: len(training.test_batches)]
    parameter, ranks = training.parameter, max(len(plan.gpus), 1)
    forwarded = [
        forward_data(
            training.solver.net, built_layers(parameter), point.train_batches, plan.resume, train=True, ranks=ranks
        )
    ]
    for number, (net, batches) in enumerate(zip(training.solver.test_nets, training.test_batches, strict=True)):
        forwarded.append(forward_data(net, built_layers(parameter, number), batches, plan.resume))
    restored, not_restored = ["weights", "solver state"], []
    for number, what in enumerate(forwarded):
        name = "training records" if number == 0 else "test records" + (f" of net {number - 1}" if number > 1 else "")
        lost = "; ".join(filter(None, (*point.lost[number : number + 1], what)))
        restored += [] if lost else [name]
        not_restored += [f"{name} ({lost})"] if lost else []
    streams = point.streams_lost or ("" if point.iteration % training.stride == 0 else "seeded anew")
    restored += [] if streams else ["random streams"]
    not_restored += [f"random streams ({streams})"] if streams else []
    if training.parameter.average_loss > 1:
        not_restored.append(f"displayed loss (its average over {training.parameter.average_loss} begins anew)")
    say(
        "resume",
        {
            "iteration": point.iteration,
            "snapshot": str(snapshot.state),
            "restored": restored,
            "not_restored": not_restored,
            "changed": changed,
        },
    )


def check_shapes(net: Any, path: Path, *, must_all_fit: bool) -> None:
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
