"""The page of a study: every number and every sentence about numbers is worked out from the kept logs."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase

from caffebench.analysis import read_runs
from caffebench.generator.variants.catalog import load_profile, load_sweep
from caffebench.generator.variants.resolve import resolve
from studying.declared import LOGS, Claim, Study
from studying.numbers import LEVEL, Arm, Difference, arms_of, difference, order, versus
from studying.scale import full_scale_words
from studying.training import commands, kept

__all__ = ["EQUAL", "clear_pairs", "differences", "machine", "page", "read_arms", "short"]

EQUAL = 0.01
"""Two variants are as good as each other where the whole interval of their difference is within so much."""
PLOTS = {"test_accuracy": "Test accuracy", "train_loss": "Train loss"}


def read_arms(study: Study) -> list[Arm]:
    """The study's variants whose seeds are all trained, from its kept logs, in the sweep's order."""
    folders = [folder for folder in kept(study) if folder.name == study.name]
    arms = arms_of(read_runs(folders)) if folders else []
    return [arm for arm in arms if len(arm.group.runs) >= study.seeds]


def untrained(study: Study, arms: Sequence[Arm]) -> list[str]:
    """Labels of the sweep's variants that the study is to train, of which not all seeds are there."""
    sweep = load_sweep(study.sweep)
    chosen = [one for one in resolve(sweep, load_profile(study.profile)) if fnmatchcase(one.name, study.only)]
    return [one.label for one in chosen if one.name not in {arm.name for arm in arms}]


def base_of(arms: Sequence[Arm]) -> Arm:
    """The default variant, which the others are compared with."""
    return next((arm for arm in arms if arm.default), arms[0])


SHOWN = 5
"""Pairs that are listed."""


def differences(arms: Sequence[Arm]) -> list[tuple[Arm, Difference]]:
    """Of each arm to the default one, where both have two runs that converged."""
    base = base_of(arms)
    found = [(arm, difference(arm, base)) for arm in arms if arm is not base]
    return [(arm, one) for arm, one in found if one is not None]


def machine() -> str:
    """On what the kept logs were made."""
    return (LOGS / "machine.txt").read_text("utf-8").strip()


# ---- words -----------------------------------------------------------------------------------------------------


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
    """What the rank correlation says."""
    found = order(arms)
    if found is None:
        return
    verdict = "the order is the published one, beyond chance" if found.rho > 0 else "the order is the other way round"
    if found.chance >= 1 - LEVEL:
        verdict = "no more than chance may give"
    yield (
        f"Spearman's rank correlation of the accuracies here with the published ones, over the {found.count} variants "
        f"that have both, is {found.rho:.2f} (p = {found.chance:.2g}, permutation test): {verdict}."
    )


def pairs(arms: Sequence[Arm]) -> list[tuple[Arm, Arm, Difference]]:
    """Every two variants with published figures, that with the higher one first, and how they differ here."""
    known = sorted(
        (arm for arm in arms if arm.published_accuracy is not None),
        key=lambda arm: arm.published_accuracy or 0.0,
        reverse=True,
    )
    found = [(one, other, difference(one, other)) for one, other in itertools.combinations(known, 2)]
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
    yield (
        f"Of the {len(every)} pairs of variants that have published figures, {count['agrees']} differ clearly here "
        f"and in "
        f"the published direction, {count['disagrees']} clearly and against it; {count['inside the spread']} are "
        f"inside "
        "the spread of the seeds, so that nothing can be said. Of intervals of 95 %, one in twenty may look clear "
        "by chance."
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
            same = ": agrees" if arm.fails == arm.published_fails else ": disagrees"
        if arm.published_fails or len(arm.accuracies) < len(arm.group.runs):
            yield f"- {arm.label}, {there}: here {len(arm.accuracies)} of {len(arm.group.runs)} runs converged{same}."


def claim_words(claim: Claim, arms: Sequence[Arm]) -> str:
    """What is said, what is found, and whether it holds."""
    by_name = {arm.name: arm for arm in arms}
    if claim.one not in by_name or claim.other not in by_name:
        return f"- *{claim.says}* Not tried."
    one, other = by_name[claim.one], by_name[claim.other]
    found = versus(one.accuracies, other.accuracies)
    if found is None:
        return f"- *{claim.says}* {one.label} and {other.label} did not both converge with two seeds: not decided."
    if claim.equal:
        holds = found.low >= -EQUAL and found.high <= EQUAL
        verdict = (
            f"holds to within {100 * EQUAL:g} point" if holds else "does not hold" if found.clear else "not decided"
        )
    else:
        verdict = (
            "not decided"
            if not found.clear
            else "holds"
            if found.mean > 0
            else "does not hold: it is the other way round"
        )
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
        found = order(arms)
        return words + (f"; rank correlation {found.rho:.2f}" if found else "")
    return "; ".join(
        claim_words(claim, arms).partition("**Here: ")[2].rstrip(".*") or "not tried" for claim in study.claims
    )


# ---- the page --------------------------------------------------------------------------------------------------


def row(*cells: str) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def table(arms: Sequence[Arm]) -> Iterator[str]:
    """Published and measured figures side by side."""
    published = any(arm.published.accuracy for arm in arms)
    scaled = published and any(arm.published.label != arm.label for arm in arms)
    best = bold_best(arms, lambda arm: statistics.fmean(arm.accuracies) if arm.accuracies else None)
    best_published = bold_best(arms, lambda arm: arm.published_accuracy)
    there = ["published accuracy", "published loss"] if published else []
    here = ["accuracy here", "loss here", "converged", "time of a run"]
    yield row("Variant", *(["published as"] if scaled else []), *there, *here)
    yield row(":---", *([":---"] if scaled else []), *["---:"] * len(there + here))
    for arm in arms:
        cells = [arm.label + (" **(default)**" if arm.default and "default" not in arm.label else "")]
        if scaled:
            cells.append(arm.published.label)
        if published:
            accuracy = arm.published.accuracy or "–"
            cells += [f"**{accuracy}**" if arm is best_published else accuracy, arm.published.loss or "–"]
        accuracy = mean_std(arm.accuracies, "{:.3f}")
        cells += [f"**{accuracy}**" if arm is best else accuracy, mean_std(arm.losses, "{:.3f}")]
        yield row(*cells, arm.converged, f"{arm.seconds:.0f} s")


def difference_table(arms: Sequence[Arm]) -> Iterator[str]:
    """Of each variant to the default, with its interval."""
    found = differences(arms)
    published = any(one.published is not None for _, one in found)
    yield row(f"minus {base_of(arms).label}", *(["published"] if published else []), "here (95 % interval)", "verdict")
    yield row(":---", *(["---:"] if published else []), "---:", ":---")
    for arm, one in found:
        there = ["–" if one.published is None else signed(one.published)] if published else []
        yield row(arm.label, *there, interval(one), one.verdict)


def layers_part(study: Study, arms: Sequence[Arm]) -> Iterator[str]:
    """The same study with Caffe's own layers, beside it."""
    folders = [folder for folder in kept(study) if folder.name == f"{study.name}_caffe"]
    if not folders:
        return
    own = {arm.name: arm for arm in arms_of(read_runs(folders))}
    pairs = [(arm, own[arm.name], versus(arm.accuracies, own[arm.name].accuracies)) for arm in arms if arm.name in own]
    yield "## With Caffe's own layers"
    yield ""
    yield row("Variant", "`--layers fast`", "`--layers caffe`", "difference, points (95 % interval)")
    yield row(":---", "---:", "---:", "---:")
    for arm, other, found in pairs:
        words = "–" if found is None else interval(found)
        yield row(arm.label, mean_std(arm.accuracies, "{:.3f}"), mean_std(other.accuracies, "{:.3f}"), words)
    known = [found for _, _, found in pairs if found is not None]
    inside = sum(not found.clear for found in known)
    yield ""
    yield f"{inside} of the {len(known)} differences between the two are inside the spread of the seeds."
    yield ""


def page(study: Study) -> str:
    """The page as Markdown. Raises ``ValueError`` where the study has no logs."""
    arms = read_arms(study)
    if not arms:
        raise ValueError(f"no logs are kept of {study.name}")
    runs = [run for arm in arms for run in arm.group.runs]
    epochs = statistics.median(run.epochs for run in runs if run.epochs is not None)
    least = min(len(arm.group.runs) for arm in arms)
    lines = [f"# {study.title}", "", f"**{study.question}**", ""]
    lines += [
        f"The claims are those of {study.source}. Here: Fashion-MNIST, {len(arms)} variants of the sweep "
        f"`{study.sweep}`, "
        f"{least} seeds of each, {epochs:.1f} epochs, `--layers {study.layers}`. {study.note}".strip(),
        "",
    ]
    if study.left_out:
        lines += [study.left_out, ""]
    if missing := untrained(study, arms):
        lines += [f"Not trained yet, and so not on this page: {', '.join(missing)}.", ""]
    lines += ["## What holds here", ""]
    said = [*order_words(arms)]
    if said:
        lines += [*said, ""]
    told = list(difference_words(arms))
    if told:
        lines += [*told, ""]
    lines += [*(claim_words(claim, arms) for claim in study.claims), *([""] if study.claims else [])]
    failed = list(failure_words(arms))
    if failed:
        lines += ["Runs that did not converge:", "", *failed, ""]
    lines += ["## Figures", "", *table(arms), ""]
    lines += [f"Mean ± standard deviation over the seeds that converged; {machine()}", ""]
    lines += [*difference_table(arms), ""]
    lines += [
        "Points are percent of accuracy. The intervals are Welch's; a published figure is of one run, and has none.",
        "",
    ]
    lines += [
        f"![{words} of the variants, mean and band over seeds](images/{study.name}_{plot}.png)\n"
        for plot, words in PLOTS.items()
    ]
    lines += layers_part(study, arms)
    trained = sum(run.seconds or 0.0 for run in runs)
    lines += [
        "## Again",
        "",
        f"`make studies ONLY={study.name}` gives these commands, in `.cache/studies`:",
        "",
        "```sh",
    ]
    lines += [" ".join(command) for command in commands(study, 2)]
    lines += ["```", "", f"The {len(runs)} runs took {trained / 60:.0f} minutes of training in all.", ""]
    lines += full_scale_words(study)
    return "\n".join(lines).rstrip() + "\n"
