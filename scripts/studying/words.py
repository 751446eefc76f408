"""The sentences about a study's numbers: none says more than an interval or a count allows."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from studying.declared import Claim, Study
from studying.numbers import LEVEL, Arm, Difference, Order, difference, order, versus

__all__ = [
    "EQUAL",
    "base_of",
    "bold_best",
    "by_architecture",
    "claim_words",
    "clear_pairs",
    "decided",
    "difference_words",
    "differences",
    "failure_words",
    "interval",
    "mean_std",
    "order_words",
    "short",
    "signed",
]

EQUAL = 0.01
"""Two variants are as good as each other where the whole interval of their difference is within so much."""
SHOWN = 5
"""Pairs that are listed."""


class Variant(Protocol):
    """What may be the default of its study."""

    @property
    def default(self) -> bool: ...


V = TypeVar("V", bound=Variant)


def base_of(arms: Sequence[V]) -> V:
    """The default variant, which the others are compared with."""
    return next((arm for arm in arms if arm.default), arms[0])


def by_architecture(arms: Sequence[Arm]) -> list[list[Arm]]:
    """The arms of each architecture."""
    kinds = dict.fromkeys(arm.architecture for arm in arms)
    return [[arm for arm in arms if arm.architecture == kind] for kind in kinds]


def differences(arms: Sequence[Arm]) -> list[tuple[Arm, Difference]]:
    """Of each arm to the default one, where both have two runs that converged."""
    base = base_of(arms)
    found = [(arm, difference(arm, base)) for arm in arms if arm is not base]
    return [(arm, one) for arm, one in found if one is not None]


def signed(value: float) -> str:
    """In points of a percent, with a sign: ``+1.3``."""
    return f"{100 * value:+.1f}"


def interval(one: Difference) -> str:
    """``+1.3 (+0.4 to +2.2)``, in points."""
    return f"{signed(one.mean)} ({signed(one.low)} to {signed(one.high)})"


def mean_std(values: Sequence[float], form: str) -> str:
    """``0.843 ± 0.004``; n/c where there is none."""
    if not values:
        return "n/c"
    mean = form.format(statistics.fmean(values))
    return f"{mean} ± {form.format(statistics.stdev(values))}" if len(values) > 1 else mean


def named(arms: Sequence[Arm]) -> str:
    """Labels with commas."""
    return ", ".join(arm.label for arm in arms)


def bold_best(arms: Sequence[Arm], key: Callable[[Arm], float | None]) -> Arm | None:
    """The arm with the greatest figure, if there are two with one."""
    known = [(value, place) for place, arm in enumerate(arms) if (value := key(arm)) is not None]
    return arms[max(known)[1]] if len(known) > 1 else None


def order_words(arms: Sequence[Arm]) -> Iterator[str]:
    """What the rank correlation says, of each architecture."""
    some = by_architecture(arms)
    for one in some:
        found = order(one)
        if found is not None:
            yield _order_words(found, f" of {one[0].architecture}" if len(some) > 1 else "")


def _order_words(found: Order, whose: str) -> str:
    verdict = "the order is the published one, beyond chance" if found.rho > 0 else "the order is the other way round"
    if found.chance >= 1 - LEVEL:
        verdict = "no more than chance may give"
    return (
        f"Spearman's rank correlation of the accuracies here with the published ones, over the {found.count} variants"
        f"{whose} that have both, is {found.rho:.2f} (p = {found.chance:.2g}, permutation test): {verdict}."
    )


def pairs(arms: Sequence[Arm]) -> list[tuple[Arm, Arm, Difference]]:
    """Every two variants of an architecture with published figures, the higher one first, and how they differ here."""
    known = sorted(
        (arm for arm in arms if arm.published_accuracy is not None),
        key=lambda arm: arm.published_accuracy or 0.0,
        reverse=True,
    )
    alike = [pair for pair in itertools.combinations(known, 2) if pair[0].architecture == pair[1].architecture]
    found = [(one, other, difference(one, other)) for one, other in alike]
    return [(one, other, some) for one, other, some in found if some is not None]


def clear_pairs(arms: Sequence[Arm], verdict: str) -> list[tuple[Arm, Arm, Difference]]:
    """Those of a verdict, the clearest first."""
    some = [row for row in pairs(arms) if row[2].verdict == verdict]
    return sorted(some, key=lambda row: row[2].strength, reverse=True)


def difference_words(arms: Sequence[Arm]) -> Iterator[str]:
    """How many differences agree, how many do not, and how many are inside the spread."""
    every = pairs(arms)
    if not every:
        return
    count = Counter(one.verdict for _, _, one in every)
    alike = " of one architecture" if len(by_architecture(arms)) > 1 else ""
    several = "s" if len(every) > 1 else ""
    yield (
        f"Of the {len(every)} pair{several} of variants{alike} with published figures, {count['agrees']} differ "
        f"clearly here and in the published direction, {count['disagrees']} clearly and against it; "
        f"{count['inside the spread']} are inside the spread of the seeds, so that nothing can be said. Of intervals "
        "of 95 %, one in twenty may look clear by chance."
    )
    for verdict, words in (("agrees", "The clearest that agree"), ("disagrees", "The clearest that disagree")):
        some = clear_pairs(arms, verdict)[:SHOWN]
        if some:
            yield ""
            yield f"{words}, in points of accuracy:"
            yield ""
        for one, other, found in some:
            yield (
                f"- {one.label} minus {other.label}: published {signed(found.published or 0.0)}, here "
                f"{interval(found)}."
            )


def failure_words(arms: Sequence[Arm]) -> Iterator[str]:
    """Variants that did not converge, here or there."""
    for arm in arms:
        there, same = "without a published figure", ""
        if arm.published_fails or arm.published_accuracy is not None:
            there = "published as not converged" if arm.published_fails else "published as converged"
            most = " in most" if 0 < len(arm.accuracies) < len(arm.group.runs) else ""
            same = (": agrees" if arm.fails == arm.published_fails else ": disagrees") + most
        if arm.published_fails or len(arm.accuracies) < len(arm.group.runs):
            yield f"- {arm.label}, {there}: here {len(arm.accuracies)} of {len(arm.group.runs)} runs converged{same}."


def decided(claim: Claim, found: Difference, better: bool, within: str, equal: float, otherwise: str) -> str:
    """Whether a claim holds of a difference between its two; ``within`` is ``equal`` in words."""
    if claim.equal and -equal <= found.low and found.high <= equal:
        return f"holds to within {within}"
    if not found.clear:
        return "not decided"
    if claim.equal:
        return "does not hold"
    return "holds" if better else f"does not hold: {otherwise}"


def claim_words(claim: Claim, arms: Sequence[Arm]) -> str:
    """What is said, what is found, and whether it holds."""
    by_name = {arm.name: arm for arm in arms}
    if claim.one not in by_name or claim.other not in by_name:
        return f"- *{claim.says}* Not tried."
    one, other = by_name[claim.one], by_name[claim.other]
    found = versus(one.accuracies, other.accuracies)
    if found is None:
        return f"- *{claim.says}* {one.label} and {other.label} did not both converge with two seeds: not decided."
    verdict = decided(claim, found, found.mean > 0, f"{100 * EQUAL:g} point", EQUAL, "it is the other way round")
    return f"- *{claim.says}* {one.label} minus {other.label}: {interval(found)} points. **Here: {verdict}.**"


def short(study: Study, arms: Sequence[Arm]) -> str:
    """One sentence for the gallery."""
    every = pairs(arms)
    if every:
        count = Counter(one.verdict for _, _, one in every)
        words = (
            f"of {len(every)} pairs of variants {count['agrees']} agree clearly with the published figures, "
            f"{count['disagrees']} disagree clearly, {count['inside the spread']} are inside the spread"
        )
        found = [f"{one.rho:.2f}" for some in by_architecture(arms) if (one := order(some)) is not None]
        return words + (f"; rank correlation {' and '.join(found)}" if found else "")
    return "; ".join(
        claim_words(claim, arms).partition("**Here: ")[2].rstrip(".*") or "not tried" for claim in study.claims
    )
