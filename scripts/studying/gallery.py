"""The pages together: `docs/studies/index.md`, and what the README says of them."""

from __future__ import annotations

from collections.abc import Sequence

from studying.declared import Study
from studying.numbers import Arm, Difference
from studying.page import clear_pairs, interval, machine, short, signed

__all__ = ["BEGIN", "END", "index", "strongest"]

BEGIN, END = "<!-- studies: made by scripts/studies -->\n", "<!-- end of studies -->\n"

Results = Sequence[tuple[Study, Sequence[Arm]]]


def index(results: Results) -> str:
    """The gallery."""
    lines = ["# Studies", ""]
    lines += [
        "Claims of published pages and papers, tried with real Caffe on Fashion-MNIST, with at least three seeds "
        "each. Every "
        "figure and every sentence about figures is worked out from the logs in `logs/studies/` by `scripts/studies`; "
        "`make test` checks that. `make studies` trains them all, `make studies ONLY=bn_order` one; both go on "
        "where they were stopped, and train no run again whose log is kept here and whose net and solver are the same "
        f"still. The logs are of {machine()}",
        "",
        "A small net on small pictures, trained for three epochs, is not ImageNet: what does not hold here may hold "
        "there.",
        "",
    ]
    lines += best(results)
    for study, arms in results:
        lines += [f"## [{study.title}]({study.name}.md)", "", f"{study.question} Here: {short(study, arms)}.", ""]
        lines += [f"[![Test accuracy](images/{study.name}_test_accuracy.png)]({study.name}.md)", ""]
    lines += ["## The recipes", "", *recipes(), ""]
    return "\n".join(lines).rstrip() + "\n"


def recipes() -> list[str]:
    """How the nets and the number of epochs were chosen."""
    return [
        "The net and the epochs of each architecture were fixed by one criterion before any variant of a study was "
        "trained: "
        "the default variant, seed 1, is to end between 82 % and 92 % test accuracy in at most 40 s of one core. "
        "`scripts/find-recipe` states it and tries its candidates in a written order; the first that meets it is "
        "taken. For "
        "CaffeNet it printed, on a machine that did other work:",
        "",
        "    caffenet, 3 epochs: 0.8434 in 38.3 s, taken",
        "",
        "Before that the list began with 2 epochs (0.8134; with kernels of 5 in the first layer 0.8184: both below "
        "82 %), and "
        "the rate dropped before every picture had been seen once, with which `gen-prototxt --lint` finds fault; so "
        "the list "
        "begins with 3 epochs now, and the rate drops at a third of them.",
    ]


def strongest(results: Results, verdict: str) -> tuple[Study, Arm, Arm, Difference] | None:
    """Of all studies' pairs of a verdict the one whose interval is, in its own half widths, farthest from 0."""
    some = [(study, *clear_pairs(arms, verdict)[0]) for study, arms in results if clear_pairs(arms, verdict)]
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
    picture = (row[0] if row else results[0][0]).name
    runs = sum(len(arm.group.runs) for _, arms in results for arm in arms)
    lines = [
        "",
        f"[{len(results)} studies](docs/studies/index.md) try published claims with real Caffe on Fashion-MNIST,",
        f"{runs} runs in all, with the spread over seeds; text and figures are made from the kept logs.",
        "",
        *best(results, "docs/studies/"),
        f"![Test accuracy, mean and band over seeds](docs/studies/images/{picture}_test_accuracy.png)",
        "",
    ]
    return BEGIN + "\n".join(lines) + "\n" + END
