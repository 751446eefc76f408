"""Bringing a solver to a snapshot, and reporting what of the run's state came back. In the child.

What is listed as restored is as it was in a run that was never interrupted; all else is listed as not restored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caffebench.common.events import ResumeEvent
from caffebench.launcher.solver.nets import built_layers
from caffebench.launcher.state.data_fast_forward import forward_data
from caffebench.launcher.state.datastate import in_batches_of, what_changed
from caffebench.launcher.state.hidden_state import hidden_states
from caffebench.launcher.state.paths import RunPaths
from caffebench.launcher.state.python_state import has_python_layers, other_states, set_random_state
from caffebench.launcher.state.record import DataState, PythonLayerState, read_record
from caffebench.launcher.state.snapshots import restorable_state
from caffebench.launcher.state.weights import check_shapes, restore_namesakes

__all__ = ["ResumePoint", "find_point", "restore"]


@dataclass(frozen=True)
class ResumePoint:
    """Where a run resumes: an iteration, and the batches, of the present sizes, that were used up to it."""

    iteration: int
    train_batches: int
    test_batches: tuple[int, ...]
    """Of each test net."""
    lost: tuple[str, ...]
    """What is not as it was of the data of the train net and of each test net, in words; empty for what is."""
    streams_lost: str
    """The same of the random streams."""
    python_layers: tuple[PythonLayerState, ...] = ()
    python_random: list[Any] | None = None
    """As in the snapshot's record."""


def find_point(paths: RunPaths, parameter: Any, iteration: int, seed: int, data: Sequence[DataState]) -> ResumePoint:
    """Where the snapshot of ``iteration`` stands in ``data``, the data of this solver.

    Without a record, of ``caffe train`` say: where an uninterrupted run would stand.
    """
    tests = len(parameter.test_iter)
    record = read_record(paths.snapshot(iteration).record)
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
    known = record.python_layers, record.python_random
    return ResumePoint(iteration, used[0], tuple(used[1 : 1 + tests]), tuple(lost), streams, *known)


def restore(
    caffe: Any,
    solver: Any,
    parameter: Any,
    point: ResumePoint,
    *,
    paths: RunPaths,
    mode: str,
    stride: int,
    ranks: int,
    changed: Sequence[str],
) -> ResumeEvent:
    """Restore the solver's state and run the data forward, as ``mode`` says: the event that reports it.

    ``stride`` is the number of iterations between two seedings, ``ranks`` that of the processes which train the net,
    ``changed`` the settings that differ from the snapshot's. Raises ``InputError`` where the snapshot is of another
    network.
    """
    snapshot = paths.snapshot(point.iteration)
    check_shapes(solver.net, snapshot.model, must_all_fit=True)
    state = restorable_state(paths, point.iteration)
    caffe.log(f"Resuming from {snapshot.state}")
    solver.restore(str(state))
    restore_namesakes(solver.net, snapshot.model)
    forwarded = [forward_data(solver.net, built_layers(parameter), point.train_batches, mode, train=True, ranks=ranks)]
    for number, (net, batches) in enumerate(zip(solver.test_nets, point.test_batches, strict=False)):
        forwarded.append(forward_data(net, built_layers(parameter, number), batches, mode))
    restored, not_restored = ["weights", "solver state"], []
    for number, what in enumerate(forwarded):
        name = "training records" if number == 0 else "test records" + (f" of net {number - 1}" if number > 1 else "")
        lost = "; ".join(filter(None, (*point.lost[number : number + 1], what)))
        restored += [] if lost else [name]
        not_restored += [f"{name} ({lost})"] if lost else []
    streams = point.streams_lost or ("" if point.iteration % stride == 0 else "seeded anew")
    restored += [] if streams else ["random streams"]
    not_restored += [f"random streams ({streams})"] if streams else []
    not_restored += _python_lost(solver, point, ranks) + hidden_states(parameter)
    if parameter.average_loss > 1:
        not_restored.append(f"displayed loss (its average over {parameter.average_loss} begins anew)")
    return ResumeEvent(point.iteration, str(snapshot.state), tuple(restored), tuple(not_restored), tuple(changed))


def _python_lost(solver: Any, point: ResumePoint, ranks: int) -> list[str]:
    """Set the generators that Python layers draw from: what they keep that has not come back, in words."""
    if not has_python_layers(solver):
        return []
    if point.python_random is None:
        return ["state and random numbers of the Python layers (not known: the snapshot has not kept them)"]
    lost = other_states(solver, point.python_layers)
    if ranks > 1:
        return [*lost, "random numbers of the Python layers (each GPU's begin anew)"]
    set_random_state(point.python_random)
    return lost
