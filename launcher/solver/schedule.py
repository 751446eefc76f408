"""What our header may ask for and Caffe cannot do alone: learning-rate schedules and phases."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from caffebench.common.errors import InputError
from caffebench.launcher.solver.nets import train_data_layers

__all__ = ["Phase", "learning_rate", "parse_phases"]

LearningRate = Callable[[int], float]


def learning_rate(header: dict[str, Any], base_lr: float, max_iter: int) -> LearningRate | None:
    """The learning rate at each iteration, where ``lr_schedule`` of the header names a policy; else None.

    ``cosine``: a linear rise to ``base_lr`` over ``warmup`` iterations, then half a cosine down to ``min_lr`` at
    ``max_iter`` (Loshchilov and Hutter, "SGDR", arXiv:1608.03983, equation 5, one period). Raises ``InputError``.
    """
    wanted = header.get("lr_schedule")
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or wanted.get("policy") != "cosine":
        raise InputError(f"lr_schedule {wanted}: the policy must be cosine; Caffe's own go into lr_policy")
    unknown = sorted(wanted.keys() - {"policy", "warmup", "min_lr"})
    if unknown:
        raise InputError(f"lr_schedule has an unknown key {unknown[0]}: valid keys are policy, warmup, min_lr")
    warmup, min_lr = int(wanted.get("warmup", 0)), float(wanted.get("min_lr", 0.0))
    if not 0 <= warmup < max_iter or not 0 <= min_lr <= base_lr:
        raise InputError(
            f"lr_schedule {wanted}: warmup must be below max_iter ({max_iter}), min_lr from 0 to base_lr ({base_lr:g})"
        )

    def cosine(iteration: int) -> float:
        if iteration < warmup:
            return base_lr * (iteration + 1) / warmup
        passed = (iteration - warmup) / (max_iter - warmup)
        return min_lr + (base_lr - min_lr) * (1 + math.cos(math.pi * min(passed, 1.0))) / 2

    return cosine


@dataclass(frozen=True)
class Phase:
    """A stretch of training, up to iteration ``until``, with settings of its own (None: as the solver says)."""

    until: int
    batch_size: int | None = None
    iter_size: int | None = None
    base_lr: float | None = None

    def apply(self, parameter: Any) -> None:
        """Put the phase's settings into a ``SolverParameter``."""
        if self.batch_size is not None:
            for layer in train_data_layers(parameter):
                layer.data_param.batch_size = self.batch_size
        if self.iter_size is not None:
            parameter.iter_size = self.iter_size
        if self.base_lr is not None:
            parameter.base_lr = self.base_lr


def parse_phases(header: dict[str, Any], max_iter: int) -> list[Phase]:
    """The phases of the header, the last one up to ``max_iter``; one plain phase where it has none.

    Raises ``InputError`` for an unknown key, a value of no use, or ends that do not rise.
    """
    wanted = header.get("phases") or []
    phases: list[Phase] = []
    for number, item in enumerate(wanted, 1):
        try:
            phase = Phase(**item)
        except TypeError:
            raise InputError(
                f"phase {number} ({item}): until is needed; batch_size, iter_size and base_lr may be given"
            ) from None
        for name, value in vars(phase).items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
                raise InputError(f"phase {number}: {name} must be a number above 0, not {value!r}")
        if phases and phase.until <= phases[-1].until:
            raise InputError(f"phase {number} ends at {phase.until}, before the phase ahead of it: put them in order")
        phases.append(phase)
    if any(phase.until < max_iter for phase in phases[-1:]):
        # The last settings hold to the end: max_iter may have been raised on the command line.
        phases[-1] = Phase(**{**vars(phases[-1]), "until": max_iter})
    return phases or [Phase(max_iter)]
