"""The pages together: `docs/studies/index.md`, and what the README says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from studying.declared import Study
from studying.numbers import Arm, Difference
from studying.words import clear_pairs, interval, signed

__all__ = ["BEGIN", "END", "Result", "index", "readme", "strongest"]

BEGIN, END = "<!-- studies: made by scripts/studies -->\n", "<!-- end of studies -->\n"


@dataclass(frozen=True)
class Result:
    """A study with a page."""

    study: Study
    page: str
    short: str
    """Its findings in a sentence."""
    picture: str
    runs: int
    arms: Sequence[Arm] = ()
    """With accuracies; none in a study of times."""


Results = Sequence[Result]


def index(results: Results) -> str:
    """The gallery."""
    lines = ["# Studies", ""]
    lines += [
        "Claims of published pages and papers, tried with real Caffe on Fashion-MNIST, with at least three seeds "
        "each; claims about times with as many repeats. Every "
        "figure and every sentence about figures is worked out from the logs in `logs/studies/` by `scripts/studies`; "
        "`make test` checks that. `make studies` trains them all, `make studies ONLY=bn_order` one; both go on "
        "where they were stopped, and train no run again whose log is kept here and whose net and solver are the same "
        "still. A page says on what machine its logs were made.",
        "",
        "Seeds differ in the first weights and in what layers such as dropout draw; the pictures come in the order of "
        "the LMDB in every run.",
        "",
        "A small net on small pictures, trained for one to three epochs, is not ImageNet: what does not hold here may "
        "hold there.",
        "",
    ]
    lines += best(results)
    for one in results:
        study = one.study
        lines += [f"## [{study.title}]({study.name}.md)", "", f"{study.question} Here: {one.short}.", ""]
        lines += [f"[![{study.title}](images/{one.picture})]({study.name}.md)", ""]
    lines += ["## The recipes", "", *recipes(), ""]
    return "\n".join(lines).rstrip() + "\n"


def recipes() -> list[str]:
    """How the nets and the number of epochs were chosen."""
    return [
        "The net and the epochs of each architecture were fixed by one criterion before any variant of a study was "
        "trained: "
        "the default variant, seed 1, is to end between 82 % and 92 % test accuracy in at most 40 s of one core. "
        "`scripts/find-recipe` states it and tries its candidates in a written order; the first that meets it is "
        "taken. It printed, on a machine that did other work, by which processor seconds may be too many:",
        "",
        "    caffenet, 3 epochs: 0.8434 in 38.3 s, taken",
        "    googlenet128, 1 epochs: 0.7487 in 22.7 s, no",
        "    googlenet128, 2 epochs: 0.8357 in 38.6 s, taken",
        "    mobilenetv2, 1 epochs: 0.8377 in 36.5 s, taken",
        "    proxylessnas_mobile, 1 epochs: 0.8435 in 69.2 s, no",
        "",
        "The lists of candidates were changed three times, each time before any variant was trained. CaffeNet's began "
        "with 2 epochs (0.8134; with kernels of 5 in the first layer 0.8184: both below 82 %), and the rate dropped "
        "before every picture had been seen once, with which `gen-prototxt --lint` finds fault; so it begins with "
        "3 epochs now, and the rate drops at a third of them. The rates of the others fall without steps, so theirs "
        "begin with 1 epoch. MobileNetV2's began with a net whose strides are in its second and fourth stage (0.8462 "
        "in 47.8 s, and again in 48.8 s with less other work: too slow); it begins with one that has them in the "
        "first two now. The other candidates of ProxylessNAS-Mobile are larger than the one above, so no study "
        "trains it.",
    ]


def strongest(results: Results, verdict: str) -> tuple[Study, Arm, Arm, Difference] | None:
    """Of all studies' pairs of a verdict the one whose interval is, in its own half widths, farthest from 0."""
    some = [(one.study, *pairs[0]) for one in results if (pairs := clear_pairs(one.arms, verdict))]
    return max(some, key=lambda row: row[3].strength, default=None)


def best(results: Results, where: str = "") -> list[str]:
    """The strongest agreement and the strongest disagreement, a line each."""
    lines = []
    for verdict, title in (("agrees", "Strongest agreement"), ("disagrees", "Strongest disagreement")):
        row = strongest(results, verdict)
        if row is None:
            lines.append(f"- {title}: none that is clear.")
            continue
        study, one, other, found = row
        lines.append(
            f"- {title}: [{study.title}]({where}{study.name}.md), {one.label} minus {other.label}: "
            f"{interval(found)} points of accuracy here, {signed(found.published or 0.0)} published."
        )
    return [*lines, ""]


def readme(results: Results) -> str:
    """The part of the README between the marks."""
    row = strongest(results, "agrees") or strongest(results, "disagrees")
    picture = (row[0] if row else results[0].study).name
    runs = sum(one.runs for one in results)
    lines = [
        "",
        f"[{len(results)} studies](docs/studies/index.md) try published claims with real Caffe, most on Fashion-MNIST,",
        f"{runs} runs in all, with the spread over seeds; text and figures are made from the kept logs.",
        "",
        *best(results, "docs/studies/"),
        f"![Test accuracy, mean and band over seeds](docs/studies/images/{picture}_test_accuracy.png)",
        "",
    ]
    return BEGIN + "\n".join(lines) + "\n" + END
