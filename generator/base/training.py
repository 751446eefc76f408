"""The solver's side of a variant: rates, iterations, intervals, the solver's type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from caffebench.generator.meaning.settings import RATE_READS, TYPE_READS
from caffebench.generator.variants.agreement import see_fall

__all__ = ["set_training"]

_PLAIN = ("base_lr", "momentum", "momentum2", "rms_decay", "delta", "weight_decay", "average_loss")
_WHOLE = ("iter_size", "test_initialization")
_RATE_FIELDS = ("gamma", "power", "stepsize", "stepvalue")


def set_training(solver: Any, values: Mapping[str, Any], given: frozenset[str], old_max_iter: int) -> None:
    """Put what a variant gives into a ``SolverParameter``; what follows from another number of iterations, too.

    Raises ``InputError`` for a fall of the rate that Caffe's numbers do not hold.
    """
    for name in (*_PLAIN, *_WHOLE):
        if name in given:
            _set(solver, name, values[name])
    if "solver_type" in given:
        solver.type = values["solver_type"]
        read = TYPE_READS[solver.type]
        for name in ("momentum", "momentum2", "rms_decay", "delta"):
            if name not in read and name not in given:
                solver.ClearField(name)
    if "seed" in given:
        solver.random_seed = int(values["seed"])
    _rates(solver, values, given, int(values["max_iter"]) / old_max_iter)
    if solver.lr_policy == "exp" and "gamma" in given:
        see_fall(float(values["gamma"]), int(values["max_iter"]))
    _iterations(solver, values, given, old_max_iter)


def _rates(solver: Any, values: Mapping[str, Any], given: frozenset[str], longer: float) -> None:
    if "lr_schedule" in given or "lr_policy" in given:
        solver.lr_policy = "fixed" if "lr_schedule" in given else values["lr_policy"]
        for name in _RATE_FIELDS:
            solver.ClearField(name)
        for name in RATE_READS[solver.lr_policy]:
            if name in values:
                _set(solver, name, values[name])
        return
    read = RATE_READS.get(solver.lr_policy, _RATE_FIELDS)
    if solver.lr_policy == "exp" and "gamma" not in given and longer != 1:
        gamma = solver.gamma ** (1 / longer)  # the same fall over the whole run
        see_fall(gamma, int(values["max_iter"]))
        solver.gamma = gamma
        read = ()
    for name in read:
        if name in given or (longer != 1 and name in values and (name == "stepvalue" or solver.HasField(name))):
            _set(solver, name, values[name])


def _iterations(solver: Any, values: Mapping[str, Any], given: frozenset[str], old_max_iter: int) -> None:
    if values["max_iter"] != old_max_iter:
        solver.max_iter = int(values["max_iter"])
    for name in ("test_interval", "display", "snapshot"):
        changed = solver.max_iter != old_max_iter and getattr(solver, name)
        if name == "test_interval" and not solver.test_iter:
            continue
        if name in values and (name in given or changed):
            _set(solver, name, values[name])


def _set(solver: Any, name: str, value: Any) -> None:
    """Set a field, a list or a number, of the field's own kind."""
    current = getattr(solver, name)
    if isinstance(value, list):
        current[:] = [int(one) for one in value]
    elif isinstance(current, bool):
        setattr(solver, name, bool(value))
    else:
        setattr(solver, name, int(value) if isinstance(current, int) else float(value))
