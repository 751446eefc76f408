"""How a plot shows its runs: against what, on which axes, with what marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from caffebench.analysis.runs.model import Run

if TYPE_CHECKING:
    from caffebench.analysis.runs.groups import Group

__all__ = ["Limits", "View", "members", "usual_x"]

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


def members(run: Run | Group) -> tuple[Run, ...]:
    """The runs that the curve of a run or of a group is the mean of: those that converged, if any did."""
    return (run,) if isinstance(run, Run) else run.converged or run.runs


def usual_x(runs: Sequence[Run | Group]) -> str:
    """What runs are compared against unless it is said: epochs where batch sizes differ and all are known."""
    every = [one for run in runs for one in members(run)]
    trained = [run for run in every if run.iteration is not None]
    sizes = {run.config.batch_size for run in trained}
    return "epoch" if len(sizes) > 1 and all(run.epochs is not None for run in trained) else "iteration"
