"""The rows of the results table, as people publish it, with published figures beside ours.

Figures are rounded; ``STYLES["published"]`` cuts them as the published tables did (0.4657 stands there as 0.465). What
is compared with a published figure is cut to its digits in any case. ``summary.csv`` has every digit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from caffebench.analysis.output.table.figures import rounded_accuracy, rounded_loss, truncated
from caffebench.analysis.runs.groups import Group, Spread, group_runs, singles
from caffebench.analysis.runs.model import Run

__all__ = [
    "CHANCE",
    "STYLES",
    "TableRow",
    "student_tail",
    "table_rows",
]

ACCURACY_DIGITS, LOSS_DIGITS = 3, 2


@dataclass(frozen=True)
class TableRow:
    """One line of the table, of one run or of a group of seeds, as text; ``best_...`` are those to be set in bold."""

    name: str
    accuracy: str
    loss: str
    comment: str
    published_accuracy: str = ""
    published_loss: str = ""
    accuracy_difference: str = ""
    loss_difference: str = ""
    best_accuracy: bool = False
    best_loss: bool = False
    runs: int = 1
    accuracy_std: str = ""
    """Standard deviation over the seeds; empty for a single run."""
    loss_std: str = ""
    accuracy_runs: int = 1
    """Runs that ``accuracy`` is the mean of."""
    loss_runs: int = 1


Format = Callable[[float | None], str]
STYLES: dict[str, tuple[Format, Format]] = {
    "rounded": (rounded_accuracy, rounded_loss),
    "published": (lambda value: truncated(value, ACCURACY_DIGITS), lambda value: truncated(value, LOSS_DIGITS)),
}
"""How figures are shown: name -> format of an accuracy, and of a loss."""


_FIGURE = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d\d?)?")
"""Of strangers: an exponent of more digits would be printed as as many zeros."""


def _difference(ours: float | None, published: str, *, share: bool = False) -> str:
    """How ours, cut to the digits of the published figure, differs from it; ``same`` where it does not.

    Empty where one is missing or no figure. Of ``share``, published figures above 1 are taken for percentages, unless
    ours is above 1 too.
    """
    if ours is None or published in ("", "-"):
        return ""
    failed = not math.isfinite(ours)
    if failed or published == "n/c":
        return "same" if failed and published == "n/c" else "differs"
    if not _FIGURE.fullmatch(published.strip()):
        return ""
    theirs = Decimal(published)
    if share and theirs > 1 >= ours:
        ours *= 100
    digits = len(f"{theirs:f}".partition(".")[2])
    cut = Decimal(truncated(ours, digits))
    return "same" if cut == theirs else f"{cut - theirs:+.{digits}f}"


def _comment(group: Group) -> str:
    run = group.runs[0]
    said = [str(run.header["comment"])] if run.header.get("comment") else []
    if not said:
        rate = run.config.base_lr
        said = [f"lr={rate:g}"] if rate is not None else []
        said += [f"{run.max_iter / 1000:g}K iters"] if run.max_iter else []
    if len(group.runs) > 1:
        tried = [one for one in group.runs if one.status not in {"not_converged", "empty"}]
        if len(tried) < len(group.runs):
            said.append(f"{len(tried)} of {len(group.runs)} converged")
        if early := [one for one in tried if not one.finished]:
            said.append(f"{len(early)} not at their end{', left out' if len(early) < len(tried) else ''}")
        return ", ".join(said)
    if run.status in {"stopped", "crashed"} and run.iteration is not None and not run.finished and run.max_iter:
        word = "in progress" if run.status == "stopped" else "crashed"
        said.append(f"{word} at {run.iteration / 1000:g}K")
    if run.tested_at is not None and run.tested_at != run.iteration and run.status != "not_converged":
        said.append(f"tested at {run.tested_at / 1000:g}K")
    return ", ".join(said)


def table_rows(runs: Sequence[Run], style: str = "rounded", *, each: bool = False) -> list[TableRow]:
    """A line for each of ``runs``, or for each group of those that differ in their seed unless ``each``.

    ``style`` is of ``STYLES``. Accuracies are shares of 1 and losses as Caffe prints them, of the last test, or the
    means over the runs of a group that converged. The best accuracy and the best loss are marked, and what seeds do not
    tell from them.
    """
    show_accuracy, show_loss = STYLES[style]
    groups = singles(runs) if each else group_runs(runs)
    accuracies, losses = [group.accuracy() for group in groups], [group.loss() for group in groups]
    best_accuracies, best_losses = _best(accuracies, 1), _best(losses, -1)
    made = []
    for place, (group, accuracy, loss) in enumerate(zip(groups, accuracies, losses, strict=True)):
        nothing = math.nan if all(run.status == "not_converged" for run in group.runs) else None
        means = (nothing if accuracy is None else accuracy.mean), (nothing if loss is None else loss.mean)
        published_accuracy, published_loss = group.runs[0].published
        made.append(
            TableRow(
                name=group.label,
                accuracy=show_accuracy(means[0]),
                loss=show_loss(means[1]),
                comment=_comment(group),
                published_accuracy=published_accuracy,
                published_loss=published_loss,
                accuracy_difference=_difference(means[0], published_accuracy, share=True),
                loss_difference=_difference(means[1], published_loss),
                best_accuracy=place in best_accuracies,
                best_loss=place in best_losses,
                runs=len(group.runs),
                accuracy_std=_std(accuracy, show_accuracy),
                loss_std=_std(loss, show_loss),
                accuracy_runs=0 if accuracy is None else accuracy.count,
                loss_runs=0 if loss is None else loss.count,
            )
        )
    return made


def _std(figure: Spread | None, show: Format) -> str:
    """The standard deviation with the decimals that the mean is shown with."""
    if figure is None or figure.std is None:
        return ""
    mean = show(figure.mean)
    return f"{figure.std:.2e}" if "e" in mean else f"{figure.std:.{len(mean.partition('.')[2])}f}"


CHANCE = 0.05
"""A row is clearly below the best where chance alone makes such a difference more rarely than that."""


def _best(figures: Sequence[Spread | None], sign: int) -> set[int]:
    """Places of the best mean (the greatest times ``sign``), of its equals, and of what is not clearly below it.

    Clearly: by Welch's t-test of the means, one-sided, which takes two runs of each.
    """
    known = {place: one for place, one in enumerate(figures) if one is not None}
    if not known:
        return set()
    best = max(known.values(), key=lambda one: sign * one.mean)
    return {place for place, one in known.items() if one.mean == best.mean or not _clearly_apart(one, best)}


def _clearly_apart(one: Spread, best: Spread) -> bool:
    if one.std is None or best.std is None or one.std == best.std == 0:
        return True
    parts = [spread.std**2 / spread.count for spread in (one, best) if spread.std is not None]
    freedom = sum(parts) ** 2 / sum(
        part**2 / (spread.count - 1) for part, spread in zip(parts, (one, best), strict=True)
    )
    return student_tail(abs(best.mean - one.mean) / math.sqrt(sum(parts)), freedom) < CHANCE


def student_tail(t: float, freedom: float) -> float:
    """The probability that Student's t with so many degrees of freedom (at least 1) is greater than ``t``.

    With t = sqrt(freedom) tan(angle) its density is proportional to cos(angle) ** (freedom - 1).
    """

    def integral(low: float) -> float:
        angles, step = np.linspace(low, math.pi / 2, 20_001, retstep=True)
        density = np.cos(angles) ** (freedom - 1)
        return float((density[1:] + density[:-1]).sum() / 2 * step)

    return integral(math.atan(t / math.sqrt(freedom))) / integral(-math.pi / 2)
