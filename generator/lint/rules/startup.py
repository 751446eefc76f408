"""Rules on the solver: what Caffe stops at when it starts, after ``src/caffe/solver.cpp`` and ``solvers/``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from caffebench.common.caffe_facts import LR_POLICIES, SOLVER_TYPES
from caffebench.generator.lint.facts import find, is_here, nearest
from caffebench.generator.lint.registry import Hit, rule
from caffebench.generator.meaning import Prototxt

_NET_FIELDS = ("net", "net_param", "train_net", "train_net_param")


@rule("lr-policy", "error", why="Caffe stops at the first iteration: 'Unknown learning rate policy'")
def lr_policy(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A learning-rate policy that Caffe does not have, or none."""
    if file.solver is not None and file.solver.lr_policy not in LR_POLICIES:
        policy = file.solver.lr_policy
        what = f"lr_policy {policy!r}" if policy else "no lr_policy"
        fix = f"lr_policy: {nearest(policy, LR_POLICIES)!r}" if policy else f"one of {', '.join(LR_POLICIES)}"
        yield Hit(what, fix.replace("'", '"'), node=file.root.at("lr_policy"))


@rule("solver-type", "error", why="Caffe stops before it builds anything: 'Unknown solver type'")
def solver_type(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A solver type that Caffe does not have; upper and lower case count."""
    if file.solver is not None and file.solver.type not in SOLVER_TYPES:
        kind = file.solver.type
        yield Hit(f"type {kind!r}", f'type: "{nearest(kind, SOLVER_TYPES)}"', node=file.root.at("type"))


@rule("regularization-type", "error", why="Caffe stops at the first update: 'Unknown regularization type'")
def regularization_type(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A ``regularization_type`` that is neither L1 nor L2, where there is a weight decay."""
    solver = file.solver
    if solver is not None and solver.weight_decay and solver.regularization_type not in ("L1", "L2"):
        kind, node = solver.regularization_type, file.root.at("regularization_type")
        yield Hit(f"regularization_type {kind!r}", 'regularization_type: "L2" or "L1"', node=node)


@rule("solver-momentum", "error", why="Caffe stops when it makes the solver: 'Momentum cannot be used with'")
def solver_momentum(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """Momentum with AdaGrad or RMSProp, which have none, or ``rms_decay`` outside of 0 to 1."""
    solver = file.solver
    if solver is None:
        return
    if solver.type in ("AdaGrad", "RMSProp") and solver.momentum:
        what = f"momentum {solver.momentum:g} with {solver.type}"
        yield Hit(what, "no momentum, or another type", node=file.root.at("momentum"))
    if solver.type == "RMSProp" and not 0 <= solver.rms_decay < 1:
        yield Hit(
            f"rms_decay {solver.rms_decay:g}",
            "rms_decay: 0.99, from 0 to below 1",
            node=file.root.at("rms_decay"),
            why="Caffe stops when it makes the solver: 'rms_decay should lie between 0 and 1'",
        )


@rule("solver-net", "error", why="Caffe stops before it builds anything: exactly one field must say the training net")
def solver_net(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A solver that says its training net twice (``net`` and ``train_net``), or not at all."""
    if file.solver is None:
        return
    given = [name for name in _NET_FIELDS if file.solver.HasField(name)]
    if not given:
        yield Hit("no net", 'net: "train_val.prototxt", the net that it trains')
    elif len(given) > 1:
        fix = f"keep {given[0]}, or train_net and test_net"
        yield Hit(" and ".join(given) + " at once", fix, node=file.root.at(given[-1]))


@rule("test-counts", "error", why="Caffe stops when it builds the test nets: it counts test_iter, test_state and nets")
def test_counts(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """``test_iter`` and ``test_state`` that are not one for each test net, or tests without a ``test_interval``."""
    solver = file.solver
    if solver is None:
        return
    own = len(solver.test_net_param) + len(solver.test_net)
    generic = solver.HasField("net") or solver.HasField("net_param")
    count, states, node = len(solver.test_iter), len(solver.test_state), file.root.at("test_iter")
    if count < own or (not generic and count != own):
        tests = f"{own} test net{'s' if own != 1 else ''}"
        yield Hit(f"test_iter is given {_times(count)} for {tests}", "one test_iter for each test net", node=node)
    total = own + (count - own if generic else 0)
    if states and states != total:
        what = f"test_state is given {_times(states)}, test_iter {_times(count)}"
        yield Hit(what, "one test_state and one test_iter for each test net", node=file.root.at("test_state"))
    if total > 0 and solver.test_interval <= 0:
        what = "test_iter without a test_interval above 0"
        fix = "test_interval: the number of iterations from test to test"
        yield Hit(what, fix, node=file.root.at("test_interval") if solver.HasField("test_interval") else node)


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


@rule("rate-steps", "error", why="Caffe stops at the first iteration: it divides by the step size")
def rate_steps(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """lr_policy ``step`` without a ``stepsize``, or ``multistep`` without a ``stepvalue``."""
    solver = file.solver
    if solver is None:
        return
    node = file.root.at("lr_policy")
    if solver.lr_policy == "step" and solver.stepsize <= 0:
        yield Hit("lr_policy step without a stepsize above 0", "give stepsize", node=node)
    if solver.lr_policy == "multistep" and not solver.stepvalue:
        yield Hit(
            "lr_policy multistep without a stepvalue",
            "give a stepvalue for each drop",
            node=node,
            severity="warning",
            why="the rate never drops: it is that of lr_policy fixed",
        )


@rule("snapshot-folder", "error", why="Caffe stops before it trains: 'Cannot write to snapshot prefix'")
def snapshot_folder(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """The folder of the snapshot prefix is not there or cannot be written to.

    Where a file's data is not on this machine it is only a note; ours are run by run-caffe, which makes the folder.
    """
    solver = file.solver
    if solver is None or file.header or not solver.snapshot_prefix or file.home is None or file.missing:
        return
    if not solver.snapshot and not solver.snapshot_after_train:
        return
    prefix = str(solver.snapshot_prefix)
    folder = Path(prefix) if Path(prefix).is_absolute() else file.home / prefix
    folder = folder if folder.is_dir() else folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK):
        return
    what = f"no folder {folder}" if not folder.exists() else f"cannot write to {folder}"
    yield Hit(
        f"snapshot_prefix {prefix!r}: {what}",
        f"mkdir -p {folder} (run-caffe puts snapshots into a folder of its own)",
        node=file.root.at("snapshot_prefix"),
        severity=None if is_here(file) else "note",
    )


@rule("missing-weights", "error", why="Caffe stops when it loads them, after it has built the nets")
def missing_weights(file: Prototxt, files: Sequence[Prototxt]) -> Iterator[Hit]:
    """A weights file that the solver names and that is not there."""
    weights = getattr(file.solver, "weights", ()) if file.solver is not None else ()
    for names in weights if not isinstance(weights, str) else [weights]:
        for name in filter(None, names.split(",")):
            if find(file, name.strip()) is None:
                severity = None if is_here(file) else "note"
                fix = "correct the path, or leave it out"
                yield Hit(f"no weights {name}", fix, node=file.root.at("weights"), severity=severity)  # type: ignore[arg-type]
