"""Which test outputs the user calls the accuracy and the loss, and what was chosen where he says nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from caffebench.analysis.runs.model import Run
from caffebench.common.errors import InputError
from caffebench.common.printable import shortened
from caffebench.common.scores import Choice, find_output, is_error

__all__ = ["choice_remarks", "with_names"]

USUAL = {"accuracy": ("accuracy", "acc"), "loss": ("loss",)}
"""Names of which nothing needs to be said."""


def with_names(runs: Sequence[Run], accuracy: str | None, loss: str | None) -> list[Run]:
    """The runs, their accuracy and loss the test outputs of these names; None leaves the choice to ``common.scores``.

    A name is that of an output (``loss3/top-1``), or has the number of its test net in front (``#1:accuracy``). Raises
    ``InputError`` where not one of the runs has an output of that name.
    """
    for option, name in (("--accuracy", accuracy), ("--loss", loss)):
        if name is not None and not any(find_output(run.test_outputs, name) for run in runs):
            there = dict.fromkeys(output.name for run in runs for output in run.test_outputs)
            have = f"choose from {', '.join(there)}" if there else "there is no test in the logs"
            raise InputError(f"{option} {name}: no test net has an output of that name: {have}")
    if accuracy is None and loss is None:
        return list(runs)
    return [replace(run, accuracy_name=accuracy, loss_name=loss) for run in runs]


def choice_remarks(runs: Sequence[Run]) -> Iterator[str]:
    """Which outputs are the accuracy and the loss of ``runs``, wherever their names do not say it.

    A line for all runs that are alike in it, which also says how to overrule it.
    """
    yield from _remarks(runs, "accuracy", lambda run: run.accuracy_choice, lambda run: run.accuracy_name)
    if name := next((run.accuracy_name for run in runs if run.accuracy_name and is_error(run.accuracy_name)), None):
        yield f"{name} is an error by its name, and the greatest of an accuracy counts as best: go by the curves"
    yield from _remarks(runs, "loss", lambda run: run.loss_choice, lambda run: run.loss_name)


def _remarks(
    runs: Sequence[Run], what: str, choice_of: Callable[[Run], Choice | None], name_of: Callable[[Run], str | None]
) -> Iterator[str]:
    alike: dict[Choice | None, list[str]] = {}
    for run in runs:
        choice = choice_of(run)
        usual = choice is not None and choice.name.lower().rpartition("/")[2] in USUAL[what] and not choice.others
        missing = choice is None and name_of(run) is not None
        if missing or (choice is not None and name_of(run) is None and not usual):
            alike.setdefault(choice, []).append(run.name)
    for choice, names in alike.items():
        who = f" of {shortened(names)}" if len(names) < len(runs) else ""
        if choice is None:
            yield f"{what}{who}: no test output of that name"
            continue
        net = f" of test net {choice.net}" if choice.net else ""
        equal = f"; {shortened(choice.others)} could be meant as well" if choice.others else ""
        yield f"{what}{who} is {choice.name}{net}{equal} (--{what} NAME chooses)"
