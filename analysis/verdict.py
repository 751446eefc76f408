"""The status of a run, by written rules, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from caffebench.analysis.config import Config
from caffebench.analysis.curves import Stitched
from caffebench.analysis.model import Session

__all__ = ["DEAD_SOFTMAX", "verdict"]

DEAD_SOFTMAX = 87.3365
"""-log(FLT_MIN): what SoftmaxWithLoss gives for a probability of zero (Caffe's softmax_loss_layer.cpp)."""

MARGIN = 0.1
"""How far below ln(classes), the loss of guessing, a loss must have been to be called learning."""
LAST = 25
"""Displayed losses whose median is the loss that a run ended with."""
PATIENCE = 900
"""Iterations on the plateau before a run that ended there is called not converged: healthy nets leave it sooner."""


def verdict(sessions: Sequence[Session], stitched: Stitched, config: Config, classes: int | None) -> tuple[str, str]:
    """Status and reason of a run."""
    if not len(stitched):
        crashed = [one for one in sessions if one.ended == "crashed"]
        return ("crashed", crashed[-1].reason) if crashed else ("empty", "no iteration in the log")
    last = sessions[-1]
    if last.ended == "not_converged":
        return last.ended, last.reason
    failed = _not_converged(stitched, classes)
    if failed:
        return "not_converged", failed
    iteration = stitched.iteration or 0
    reached = f"{iteration:,} of {config.max_iter:,} iterations" if config.max_iter else f"{iteration:,} iterations"
    if last.ended == "done":
        return "done", last.reason
    if last.ended == "crashed":
        return "crashed", f"{last.reason} ({reached})"
    if last.ended == "stopped":
        return "stopped", f"{last.reason} ({reached})"
    return "stopped", f"the log ends without a word ({reached})"


def _not_converged(stitched: Stitched, classes: int | None) -> str:
    train = stitched.curve("loss", "train", None)
    losses = train["value"]
    if losses.is_empty():
        return ""
    end = losses.tail(LAST)
    if not end.is_finite().all():
        return "the loss became NaN or infinite"
    if np.abs(end.to_numpy() - DEAD_SOFTMAX).max() < 0.01:
        return f"the loss stayed at {DEAD_SOFTMAX}, a dead softmax"
    if classes is None:
        return ""
    chance = math.log(classes)
    final = float(np.median(end.to_numpy()))
    best = float(np.nanmin(losses.rolling_median(min(5, len(losses))).to_numpy()))
    iterations = int(train["iteration"][-1] - train["iteration"][0])
    if best < chance - MARGIN and final < chance:
        return ""
    if final > chance + MARGIN and iterations >= 100:
        return f"the loss ended at {final:.3g}, above guessing (ln {classes} = {chance:.3g})"
    if iterations >= PATIENCE:
        return f"the loss stayed at guessing (ln {classes} = {chance:.3g}) for {iterations:,} iterations"
    return ""
