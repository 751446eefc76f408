"""Runs of one variant that differ only in their seed, as one: mean, spread, and how many converged."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from caffebench.analysis.runs.related import copies
from caffebench.common.printable import shortened

if TYPE_CHECKING:
    from caffebench.analysis.runs.model import Run

__all__ = ["Group", "Spread", "group_runs", "singles"]

_SEED = re.compile(r"[-_. ]*(?:seed|rep|repeat|trial|run)?[-_. =]*$", re.IGNORECASE)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a figure over the runs of a group."""

    mean: float
    std: float | None
    """Of the sample (n - 1); None where there is one run."""
    count: int


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed at most; a run without its like is a group of one."""

    runs: tuple[Run, ...]
    apart: str = ""
    """What tells it from another one that is called the same."""

    @cached_property
    def converged(self) -> tuple[Run, ...]:
        """Those that converged; figures of a group are theirs.

        Where some are at their end only those: what is under way, or was killed at its start, would be no seed's end.
        """
        some = tuple(run for run in self.runs if run.status not in {"not_converged", "empty"})
        return tuple(run for run in some if run.finished) or some

    @property
    def name(self) -> str:
        """The name of its run, or what it is a group of."""
        return self.runs[0].name if len(self.runs) == 1 else self.variant

    @property
    def status(self) -> str:
        """``not_converged`` where no run converged; else that of the first which did."""
        return self.converged[0].status if self.converged else "not_converged"

    @property
    def variant(self) -> str:
        """Of the header; else what the names of the runs have in common, or the names where that is nothing.

        Empty for a single run without a header.
        """
        variant = self.runs[0].variant
        return variant or ((_common(self.runs) or self.names) if len(self.runs) > 1 else "")

    @property
    def names(self) -> str:
        """The names of its runs, or of the first of many."""
        return shortened([run.name for run in self.runs])

    @property
    def is_doubtful(self) -> bool:
        """It is one only because its logs differ in nothing: the names of its runs have nothing in common."""
        return len(self.runs) > 1 and not self.runs[0].variant and not _common(self.runs)

    @property
    def label(self) -> str:
        """How it is called in tables and legends."""
        first = self.runs[0]
        label = first.label if len(self.runs) == 1 or first.header.get("label") else self.variant
        return f"{label} ({self.apart})" if self.apart else label

    def accuracy(self) -> Spread | None:
        """Over the last tests of the runs that converged; None where none was tested."""
        return _spread([run.accuracy for run in self.converged])

    def loss(self) -> Spread | None:
        """The same of the loss."""
        return _spread([run.loss for run in self.converged])

    def best_accuracy(self) -> Spread | None:
        """The same of the best accuracy of each run, whenever it was."""
        return _spread([run.best[0] for run in self.converged if run.best is not None])


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    return Spread(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None, len(known))


def singles(runs: Sequence[Run]) -> list[Group]:
    """Each of ``runs`` as a group of its own, told apart by its name where others are called the same."""
    count = Counter(run.label for run in runs)
    return [Group((run,), run.name if count[run.label] > 1 else "") for run in runs]


def _common(runs: Sequence[Run]) -> str:
    """``net`` of ``net_seed1`` and ``net_seed2``; empty where the names have nothing in common."""
    letters = zip(*(run.name for run in runs), strict=False)
    return _SEED.sub("", "".join(one[0] for one in takewhile(lambda one: len(set(one)) == 1, letters)))


def _kind(run: Run) -> tuple[object, ...] | None:
    """What runs of one group have in common; None where too little is known of a run to say."""
    config, first = run.config, run.sessions[0]
    if run.variant or run.identity:
        net, options = run.identity.get("net", config.net_key), run.identity.get("options", run.header.get("init"))
        file = PurePath(str(run.identity.get("path", ""))).name, run.header.get("profile"), str(net), str(options)
        return run.sweep, run.variant, *file, config.solver_key, config.gpus
    if not config.solver or not config.net or config.cut or first.headless or first.resumed_from:
        return None  # what is cut may differ; what began in the middle may have begun in the log of another run
    trained = [one.config for one in run.sessions if one.trained]
    if any(one.test_key is None for one in trained):
        return None
    return first.weights, *dict.fromkeys((one.solver_key, one.net_key, one.test_key, one.gpus) for one in trained)


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group ``runs`` that differ in their seed at most; groups come in the order of their first runs.

    Of runs that have the same seed, too, only one is of a group, as of those that are copies of one another. One whose
    log begins in the middle of its training is of none.

    Runs with a header are of one variant, too; all must have the same solver and net, as many GPUs, and the same first
    weights. Where no seed is given, Caffe takes one from the clock.
    """
    if len(runs) == 1:
        return [Group((runs[0],))]
    together: dict[tuple[object, ...], list[Run]] = {}
    seeds: dict[tuple[object, ...], set[int]] = {}
    again = {run.name for _, *others in copies(runs) for run in others}
    for run in runs:
        key = None if run.name in again else _kind(run)
        if key is None or run.seed in seeds.get(key, ()):
            key = ("alone", run.name)
        together.setdefault(key, []).append(run)
        if run.seed is not None:
            seeds.setdefault(key, set()).add(run.seed)
    groups = [Group(tuple(some)) for some in together.values()]
    count = Counter(one.label for one in groups)
    common = Counter((one.label, _common(one.runs)) for one in groups)
    return [
        replace(one, apart=_common(one.runs) if common[one.label, _common(one.runs)] == 1 else one.names)
        if count[one.label] > 1
        else one
        for one in groups
    ]
