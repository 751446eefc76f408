"""The page of a study: every number and every sentence about numbers is worked out from the kept logs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from caffebench.analysis import read_runs
from caffebench.generator.variants.catalog import load_profile, load_sweep
from caffebench.generator.variants.resolve import resolve
from studying.declared import Study
from studying.numbers import Arm, arms_of, versus
from studying.scale import full_scale_words
from studying.training import commands, kept, machines
from studying.words import (
    base_of,
    bold_best,
    by_architecture,
    claim_words,
    difference_words,
    differences,
    failure_words,
    interval,
    mean_std,
    order_words,
    signed,
)

__all__ = ["again", "page", "read_arms", "row"]

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


def row(*cells: str) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def mean_accuracy(arm: Arm) -> float | None:
    """Of the seeds that converged."""
    return statistics.fmean(arm.accuracies) if arm.accuracies else None


def clearly_best(arms: Sequence[Arm]) -> Arm | None:
    """The arm with the greatest mean, where it differs clearly from each of the others."""
    best = bold_best(arms, mean_accuracy)
    rest = [arm for arm in arms if arm is not best and len(arm.accuracies) > 1]
    found = [versus(best.accuracies, arm.accuracies) for arm in rest] if best else []
    return best if found and all(one is not None and one.clear for one in found) else None


def table(arms: Sequence[Arm]) -> Iterator[str]:
    """Published and measured figures side by side."""
    published = any(arm.published.accuracy for arm in arms)
    scaled = published and any(arm.published.label != arm.label for arm in arms)
    best = [clearly_best(some) for some in by_architecture(arms)]
    best_published = [bold_best(some, lambda arm: arm.published_accuracy) for some in by_architecture(arms)]
    there = ["published accuracy", "published loss"] if published else []
    here = ["accuracy here", "loss here", "converged"]
    yield row("Variant", *(["published as"] if scaled else []), *there, *here)
    yield row(":---", *([":---"] if scaled else []), *["---:"] * len(there + here))
    for arm in arms:
        cells = [arm.label + (" **(default)**" if arm.default and "default" not in arm.label else "")]
        if scaled:
            cells.append(arm.published.label)
        if published:
            accuracy = arm.published.accuracy or "–"
            cells += [f"**{accuracy}**" if arm in best_published else accuracy, arm.published.loss or "–"]
        accuracy = mean_std(arm.accuracies, "{:.3f}")
        cells += [f"**{accuracy}**" if arm in best else accuracy, mean_std(arm.losses, "{:.3f}")]
        yield row(*cells, arm.converged)


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
    own = {arm.name: arm for arm in arms_of(read_runs(folders)) if len(arm.group.runs) >= study.seeds}
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


def again(study: Study, runs: int, seconds: float) -> Iterator[str]:
    """How to repeat it, and how long that took."""
    yield from (
        "## Again",
        "",
        f"`make studies ONLY={study.name}` gives these commands, in `.cache/studies`:",
        "",
        "```sh",
    )
    yield from (" ".join(command) for command in commands(study, 2))
    yield from ("```", "", f"The {runs} runs took {seconds / 60:.0f} minutes of training in all.", "")


def page(study: Study) -> str:
    """The page as Markdown. Raises ``ValueError`` where the study has no logs."""
    arms = read_arms(study)
    if not arms:
        raise ValueError(f"no logs are kept of {study.name}")
    runs = [run for arm in arms for run in arm.group.runs]
    # Those of runs that did not converge are fewer.
    epochs = sorted({f"{run.epochs:.1f}" for arm in arms for run in arm.group.converged if run.epochs is not None})
    least = min(len(arm.group.runs) for arm in arms)
    lines = [f"# {study.title}", "", f"**{study.question}**", ""]
    lines += [
        f"The claims are those of {study.source}. Here: Fashion-MNIST, {len(arms)} variants of the sweep "
        f"`{study.sweep}`, "
        f"{least} seeds of each, {' or '.join(epochs)} epochs, `--layers {study.layers}`. {study.note}".strip(),
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
    lines += [f"Mean ± standard deviation over the seeds that converged; trained on {machines(study)}."]
    published = any(arm.published.accuracy for arm in arms)
    if published:
        lines += ["In bold: the best published figure, and the best here where it differs clearly from each other one."]
    lines += [""]
    for some in by_architecture(arms):
        lines += [*difference_table(some), ""]
    of_one = "; a published figure is of one run, and has none" if published else ""
    lines += [f"Points are percent of accuracy. The intervals are Welch's{of_one}.", ""]
    lines += [
        f"![{words} of the variants, mean and band over seeds](images/{study.name}_{plot}.png)\n"
        for plot, words in PLOTS.items()
    ]
    lines += layers_part(study, arms)
    trained = sum(run.seconds or 0.0 for run in runs)
    lines += again(study, len(runs), trained)
    lines += full_scale_words(study)
    return "\n".join(lines).rstrip() + "\n"
