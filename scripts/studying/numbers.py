"""What a study's logs say against what was published: figures with their spread, differences, order."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from caffebench.analysis.runs.groups import Group, group_runs
from caffebench.analysis.runs.model import Run
from caffebench.generator.variants.catalog import load_profile, load_sweep
from caffebench.generator.variants.resolve import resolve

__all__ = ["LEVEL", "Arm", "Difference", "Published", "arms_of", "difference", "order", "versus"]

LEVEL = 0.95
"""Confidence of the intervals."""


@dataclass(frozen=True)
class Published:
    """What was published of a variant, as text; its label is that of the published scale (BS=256 for our BS=64)."""

    label: str = ""
    accuracy: str = ""
    loss: str = ""


@dataclass(frozen=True)
class Arm:
    """One variant: what was published of it, and its runs here."""

    group: Group
    published: Published = Published()
    architecture: str = ""
    """Accuracies are compared within one: each was made narrow in a way of its own."""

    @property
    def name(self) -> str:
        """The variant's name on the profile."""
        return self.group.runs[0].variant

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.group.label

    @property
    def default(self) -> bool:
        """Others are compared with it."""
        return bool(self.group.runs[0].header.get("default"))

    @cached_property
    def accuracies(self) -> tuple[float, ...]:
        """Of the last tests of the runs that converged, one a seed."""
        return tuple(run.accuracy for run in self.group.converged if run.accuracy is not None)

    @cached_property
    def losses(self) -> tuple[float, ...]:
        """The same of the loss."""
        return tuple(run.loss for run in self.group.converged if run.loss is not None)

    @property
    def converged(self) -> str:
        """``3``, or ``2 of 3`` where a run did not converge."""
        every, good = len(self.group.runs), len(self.accuracies)
        return str(every) if good == every else f"{good} of {every}"

    @property
    def fails(self) -> bool:
        """Most of its runs did not converge."""
        return 2 * len(self.accuracies) < len(self.group.runs)

    @property
    def published_accuracy(self) -> float | None:
        """As a number; None where none was published, or it did not converge."""
        return _number(self.published.accuracy)

    @property
    def published_fails(self) -> bool:
        """It was published as not converged."""
        return self.published.accuracy == "n/c"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def arms_of(runs: Sequence[Run]) -> list[Arm]:
    """The variants of a study's runs, in the order of its sweep, with what was published of each."""
    if not runs:
        return []
    header = runs[0].header
    sweep = load_sweep(header["sweep"])
    here = {one.name: str(one.settings["architecture"]) for one in resolve(sweep, load_profile(header["profile"]))}
    there = resolve(sweep, load_profile("imagenet128"))
    published = {}
    for name, one in zip(here, there, strict=True):
        said = one.variant.published
        published[name] = (
            Published(one.label, said.accuracy or "", said.logloss or "") if said else Published(one.label)
        )
    named = {group.runs[0].variant: group for group in group_runs(runs)}
    return [Arm(named[name], published[name], architecture) for name, architecture in here.items() if name in named]


@dataclass(frozen=True)
class Difference:
    """How much greater the accuracy of one arm is than that of another, with a confidence interval (Welch)."""

    mean: float
    low: float
    high: float
    published: float | None = None

    @property
    def clear(self) -> bool:
        """The interval does not hold 0."""
        return self.low > 0 or self.high < 0

    @property
    def strength(self) -> float:
        """How many half widths of the interval it is away from 0."""
        half = (self.high - self.low) / 2
        return abs(self.mean) / half if half else math.inf

    @property
    def verdict(self) -> str:
        """What it says about the published difference."""
        if not self.clear:
            return "inside the spread"
        if self.published is None:
            return "clear"
        if self.published == 0:
            return "clear here, none published"
        return "agrees" if (self.published > 0) == (self.mean > 0) else "disagrees"


def versus(one: Sequence[float], other: Sequence[float]) -> Difference | None:
    """Mean of ``one`` minus that of ``other``; None where either has less than two values."""
    from scipy import stats

    if len(one) < 2 or len(other) < 2:
        return None
    mean = statistics.fmean(one) - statistics.fmean(other)
    parts = [statistics.variance(some) / len(some) for some in (one, other)]
    if not sum(parts):
        return Difference(mean, mean, mean)
    freedom = sum(parts) ** 2 / sum(part**2 / (len(some) - 1) for part, some in zip(parts, (one, other), strict=True))
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(sum(parts))
    return Difference(mean, mean - half, mean + half)


def difference(arm: Arm, base: Arm) -> Difference | None:
    """Of ``arm`` to ``base``, with the published difference where both figures were published."""
    found = versus(arm.accuracies, base.accuracies)
    if found is None:
        return None
    said = arm.published_accuracy, base.published_accuracy
    published = None if said[0] is None or said[1] is None else round(said[0] - said[1], 6)
    return Difference(found.mean, found.low, found.high, published)


@dataclass(frozen=True)
class Order:
    """Spearman's rank correlation of our mean accuracies with the published ones."""

    rho: float
    chance: float
    """Probability that an order at random correlates as much, one way or the other."""
    count: int


def order(arms: Sequence[Arm]) -> Order | None:
    """Over the arms with a figure on both sides; None where they are fewer than four: three say nothing."""
    from scipy import stats

    pairs = [
        (arm.published_accuracy, statistics.fmean(arm.accuracies))
        for arm in arms
        if arm.published_accuracy is not None and arm.accuracies
    ]
    if len(pairs) < 4:
        return None
    published, ours = zip(*pairs, strict=True)
    rho = float(stats.spearmanr(published, ours).statistic)
    tried = stats.permutation_test(
        (published,),
        lambda some: stats.spearmanr(some, ours).statistic,
        permutation_type="pairings",
        n_resamples=5000,
        rng=1,
    )
    return Order(rho, float(tried.pvalue), len(pairs))
