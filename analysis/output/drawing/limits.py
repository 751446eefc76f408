"""The limits of an axis that fits its curves: none that ran away, and no beginning, presses the others flat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffebench.analysis.output.drawing.downsample import Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from caffebench.analysis.output.drawing.lines import Line

__all__ = ["fit", "fit_to_ends"]

RUNAWAY = 1.5
"""A loss beyond so many times what 99 % of its values stay below leaves the picture, with a mark where it does."""
LATER, STEEP = 0.9, 10
"""So does a beginning that is so many times as high as that part of the curve which comes after it."""
FLAT = 5
"""And what is so many times as high as another curve."""


def fit(ax: Axes, lines: Sequence[Line], log: bool) -> None:
    """Fit the loss axis to the runs that converged: no other run and no beginning must press them flat."""
    good = [line for line in lines if line.run.status != "not_converged"] or lines
    every = [line.raw_line[1] for line in good]
    every = [values for values in (one[np.isfinite(one) & ((one > 0) | (not log))] for one in every) if len(values)]
    if not every:
        return
    low = min(float(values.min()) for values in every)
    # A logarithmic axis presses nothing flat; heights are above 0, or above the least where it is less.
    base = min(low, 0.0)
    high = max(map(_highest, every)) if log else base + _readable([values - base for values in every])
    if not low < high:
        return
    if log:
        ax.set_ylim(low / 1.1, high * 1.1)
    else:
        pad = 0.04 * (high - low)
        ax.set_ylim(max(low - pad, 0.0) if low >= 0 else low - pad, high + pad)


def _highest(values: Numbers) -> float:
    """The greatest of ``values`` but for those few that run away."""
    return min(float(values.max()), RUNAWAY * float(np.quantile(values, 0.99)))


def _readable(curves: Sequence[Numbers]) -> float:
    """The height of a picture in which the ends of all ``curves`` are seen and, where that can be, none is flat."""
    tops, ends = [], []
    for heights in curves:
        later, end = heights[-max(1, int(LATER * len(heights))) :], float(np.median(heights[len(heights) // 2 :]))
        usual = max(float(np.quantile(later, 0.99, method="lower")), end)  # of few points without the greatest
        tops.append(_highest(heights[heights <= STEEP * usual]))
        ends.append(end)
    return min(max(tops), FLAT * min((top for top in tops if top and FLAT * top >= max(ends)), default=0.0))


def fit_to_ends(ax: Axes, lines: Sequence[Line]) -> None:
    """Open the axis on where the curves that converged end, from half of each on: not on guessing, where they begin."""
    good = [line for line in lines if line.run.status != "not_converged"] or lines
    bands = [(line, 0.0 if line.spread is None else np.nan_to_num(line.spread)) for line in good if len(line.y) > 1]
    ends = [(line.y + side * band)[line.x >= line.x[-1] / 2] for line, band in bands for side in (-1, 1)]
    ends = [values for values in (one[np.isfinite(one)] for one in ends) if len(values)]
    if not ends:
        return
    low, high = min(float(values.min()) for values in ends), max(float(values.max()) for values in ends)
    pad = max(0.06 * (high - low), 0.005 * max(abs(low), abs(high)), 1e-6)
    ax.set_ylim(low - pad, high + pad)
