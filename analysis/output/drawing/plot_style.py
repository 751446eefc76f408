"""How runs look, in the plots and in the report alike: colours, dashes, names of axes and curves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caffebench.analysis.runs.groups import Group
    from caffebench.analysis.runs.model import Run

__all__ = ["COLORS", "DASHES", "final", "style", "window_of"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours (Color Universal Design, 2008), told apart by the colour-blind too; not their yellow, which
nobody can see on white."""

DASHES = ("solid", "dash", "dot")
"""Where the colours end, dashes continue: 21 looks."""


def style(index: int) -> tuple[str, str]:
    """Colour and dash of the run number ``index``: the same in every picture."""
    return COLORS[index % len(COLORS)], DASHES[index // len(COLORS) % len(DASHES)]


def window_of(rows: int) -> int:
    """Rows over which a train loss of so many rows is smoothed by default: a hundredth, but 5 where there are 50."""
    return max(rows // 100, 5 if rows >= 50 else 1)


def final(value: float | None, run: Run | Group) -> float | None:
    """``value`` as a run's final one: None where it did not converge, or is no number."""
    return None if value is None or not math.isfinite(value) or run.status == "not_converged" else value
