"""How a plot shows its runs: against what, on which axes, with what marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from caffebench.analysis.runs.model import Run
from caffebench.common.errors import InputError

if TYPE_CHECKING:
    from caffebench.analysis.runs.groups import Group

__all__ = ["Limits", "View", "check_limits", "members", "usual_x"]

Limits = tuple[float, float]
"""The least and the greatest value of an axis."""


class View(NamedTuple):
    """What one may choose of a plot; the defaults suit the runs."""

    x: str | None = None
    """``iteration``, ``epoch`` or ``seconds`` of training; None for ``usual_x``."""
    log_x: bool = False
    log_y: bool = False
    """Of the losses; the learning rate is on a logarithmic axis in any case."""
    resumes: bool = False
    """Mark where runs were resumed."""
    window: int | None = None
    """Displayed train losses that a mean is taken over; None for a hundredth of each run, at least 5; 1 for none."""
    xlim: Limits | None = None
    """In the unit that the axis has."""
    ylim: Limits | None = None


def check_limits(view: View, ylims: Mapping[str, Limits | None]) -> None:
    """Raise ``InputError`` where an axis that is logarithmic has a limit that is not above 0.

    ``ylims`` has the limits of the second axis by the name of the plot.
    """
    other_way = ", or leave out --log {}"
    given = [("--xlim ", view.xlim, view.log_x, other_way.format("x"))]
    for plot, limits in ylims.items():
        always = plot == "learning_rate"
        log = always or (view.log_y and plot != "test_accuracy")
        given.append((f"--ylim {plot}=", limits, log, "" if always else other_way.format("y")))
    for option, limits, log, way in given:
        if log and limits is not None and limits[0] <= 0:
            said = f"{option}{limits[0]:g},{limits[1]:g}"
            raise InputError(f"{said}: a logarithmic axis has nothing at or below 0: begin above it{way}")


def members(run: Run | Group) -> tuple[Run, ...]:
    """The runs that the curve of a run or of a group is the mean of: those that converged, if any did."""
    return (run,) if isinstance(run, Run) else run.converged or run.runs


def usual_x(runs: Sequence[Run | Group]) -> str:
    """What runs are compared against unless it is said: epochs where batch sizes differ and all are known."""
    every = [one for run in runs for one in members(run)]
    trained = [run for run in every if run.iteration is not None]
    sizes = {run.config.batch_size for run in trained}
    return "epoch" if len(sizes) > 1 and all(run.epochs is not None for run in trained) else "iteration"
