"""What the repeats of a study of times say: medians with their spread, ratios with intervals, weights, and its page."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from caffebench.analysis import read_runs
from caffebench.analysis.runs.model import Run
from studying.declared import LOGS, PAGES, Claim, Study
from studying.numbers import Difference, versus
from studying.page import again, row
from studying.timing import BUSY, others, weights
from studying.words import base_of, decided

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Timed", "page", "read_timed", "save_picture", "seconds_of", "short"]

EQUAL = 0.05
"""Two variants are as fast as each other where the interval of their difference is within this part of the time."""
UNITS = {"run": "seconds of a run", "batch": "seconds of a batch"}


@dataclass(frozen=True)
class Timed:
    """One variant: its repeats in the order in which they were run."""

    runs: tuple[Run, ...]
    seconds: tuple[float, ...]
    weights: frozenset[str]
    """Fingerprints of the weights that its repeats ended with; empty where they are not asked for."""

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.runs[0].variant

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.runs[0].label

    @property
    def default(self) -> bool:
        """Others are compared with it."""
        return bool(self.runs[0].header.get("default"))

    @property
    def median(self) -> float:
        """Of its repeats."""
        return statistics.median(self.seconds)


def read_timed(study: Study) -> list[Timed]:
    """The study's variants whose repeats all ended, from its kept logs, in the natural order of their names."""
    folder = LOGS / study.name
    runs = read_runs([folder]) if any(folder.glob("*.log.gz")) else []
    runs = [run for run in runs if run.status == "done"]
    known = weights(study)
    found = []
    for variant in dict.fromkeys(run.variant for run in runs):
        some = tuple(run for run in runs if run.variant == variant)
        if len(some) >= study.seeds:
            seconds = tuple(seconds_of(run, study.times) for run in some)
            found.append(Timed(some, seconds, frozenset(known[run.name] for run in some if run.name in known)))
    return found


def seconds_of(run: Run, what: str) -> float:
    """Of the whole training, or of a batch: from the first loss displayed to the last, without the end's snapshot."""
    if what == "run":
        return run.seconds or 0.0
    lines = run.curve("loss", "train")
    lines = lines.filter(lines["iteration"] < run.iteration)
    first, last = lines.row(0, named=True), lines.row(-1, named=True)
    return float((last["seconds"] - first["seconds"]) / (last["iteration"] - first["iteration"]))


def slower(one: Timed, other: Timed) -> Difference | None:
    """By which part of the time of ``other`` ``one`` takes longer, with an interval."""
    mean = statistics.fmean(other.seconds)
    return versus([value / mean for value in one.seconds], [value / mean for value in other.seconds])


def percent(found: Difference) -> str:
    """``+12 % (+8 to +16)``."""
    return f"{100 * found.mean:+.0f} % ({100 * found.low:+.0f} to {100 * found.high:+.0f})"


def claim_words(claim: Claim, arms: Sequence[Timed]) -> str:
    """What is said of two times, what is found, and whether it holds."""
    by_name = {arm.name: arm for arm in arms}
    if claim.one not in by_name or claim.other not in by_name:
        return f"- *{claim.says}* Not measured."
    one, other = by_name[claim.one], by_name[claim.other]
    found = slower(one, other)
    if found is None:
        return f"- *{claim.says}* Not measured twice: not decided."
    verdict = decided(claim, found, found.mean < 0, f"{100 * EQUAL:g} %", EQUAL, "it takes longer")
    return f"- *{claim.says}* {one.label} against {other.label}: {percent(found)} of the time. **Here: {verdict}.**"


def weight_words(arms: Sequence[Timed]) -> Iterator[str]:
    """Which runs ended with the same weights."""
    for arm in arms:
        if arm.weights:
            count = len(arm.weights)
            same = "the same weights, bit for bit" if count == 1 else f"{count} different sets of weights"
            yield f"- The {len(arm.runs)} runs of {arm.label} ended with {same}."
    alone = [arm for arm in arms if len(arm.weights) == 1]
    if len(alone) > 1:
        same = len(frozenset.union(*(arm.weights for arm in alone))) == 1
        names = ", ".join(arm.label for arm in alone)
        yield f"- The weights of {names} are {'the same as each other' if same else 'not all the same'}."


def short(study: Study, arms: Sequence[Timed]) -> str:
    """One sentence for the gallery."""
    said = [claim_words(claim, arms).partition("**Here: ")[2].rstrip(".*") for claim in study.claims]
    return "; ".join(one or "not decided" for one in said)


def table(study: Study, arms: Sequence[Timed]) -> Iterator[str]:
    """Medians, and how far each is from the default."""
    base = base_of(arms)
    yield row("Variant", f"{UNITS[study.times]}, median", "least to most", f"against {base.label} (95 % interval)")
    yield row(":---", "---:", "---:", "---:")
    for arm in arms:
        found = None if arm is base else slower(arm, base)
        label = arm.label + (" **(default)**" if arm.default else "")
        span = f"{min(arm.seconds):.3g} to {max(arm.seconds):.3g}"
        yield row(label, f"{arm.median:.3g}", span, "–" if found is None else percent(found))


def page(study: Study) -> str:
    """The page as Markdown. Raises ``ValueError`` where the study has no logs."""
    arms = read_timed(study)
    if not arms:
        raise ValueError(f"no logs are kept of {study.name}")
    least = min(len(arm.runs) for arm in arms)
    lines = [f"# {study.title}", "", f"**{study.question}**", ""]
    about = f"The claims are those of {study.source}. Here: {len(arms)} variants, each run {least} times, in turn, "
    lines += [f"{about}`--layers {study.layers}`. {study.note}".strip(), "", "## What holds here", ""]
    lines += [*(claim_words(claim, arms) for claim in study.claims), ""]
    same = list(weight_words(arms))
    if same:
        lines += ["What the runs ended with, by the SHA-256 of their `.caffemodel`:", "", *same, ""]
    lines += ["## Figures", "", *table(study, arms), ""]
    machine = (LOGS / study.name / "machine.txt").read_text("utf-8").strip()
    lines += [
        f"Measured on {machine}. {others_words(study)} The intervals are Welch's, of means.",
        "",
        f"![Each repeat, and the medians](images/{study.name}_times.png)",
        "",
    ]
    runs = [run for arm in arms for run in arm.runs]
    lines += again(study, len(runs), sum(run.seconds or 0.0 for run in runs))
    return "\n".join(lines).rstrip() + "\n"


def others_words(study: Study) -> str:
    """What other programs did to the machine meanwhile."""
    busy = others(study)
    if busy is None:
        return "What other programs took of it meanwhile was not counted."
    said = f"Other programs kept at most {busy:.2f} cores busy meanwhile"
    return said + ("; so times are upper bounds, and differences may be theirs." if busy > BUSY else ".")


def draw(ax: Axes, study: Study, arms: Sequence[Timed]) -> None:
    """A dot a repeat, a line at the median; from zero, so that lengths compare."""
    for place, arm in enumerate(arms):
        ax.plot([place] * len(arm.seconds), arm.seconds, "o", color="#0072b2", alpha=0.6)
        ax.hlines(arm.median, place - 0.3, place + 0.3, color="black")
    ax.set_xticks(range(len(arms)), [arm.label for arm in arms])
    ax.set_xlim(-0.6, len(arms) - 0.4)
    ax.set_ylim(0, None)
    ax.set_ylabel(UNITS[study.times])
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e0e0e0")
    ax.set_axisbelow(True)


def save_picture(study: Study) -> list[Path]:
    """Draw the kept repeats of a study; nothing where there are none."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    arms = read_timed(study)
    if not arms:
        return []
    with mpl.rc_context({"font.size": 11}):
        figure = Figure(figsize=(7, 3.6), layout="constrained")
        draw(figure.subplots(), study, arms)
        path = PAGES / "images" / f"{study.name}_times.png"
        figure.savefig(path, dpi=130, metadata={"Software": None})
    return [path]
