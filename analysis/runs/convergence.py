"""The status of a run, by written rules, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from caffebench.analysis.runs.config import Config
from caffebench.analysis.runs.model import Session
from caffebench.analysis.stitch.curves import Stitched

__all__ = ["DEAD_SOFTMAX", "verdict"]

DEAD_SOFTMAX = 87.3365
"""-log(FLT_MIN): what SoftmaxWithLoss gives for a probability of zero (Caffe's softmax_loss_layer.cpp)."""

LAST = 25
"""Displayed losses whose median is called the loss at a place: single ones are noisy."""
MARGIN = 0.03
"""How far below guessing, ln(classes), the loss must have been once to be called learning. A net that predicts
nothing stays closer than that; CaffeNet128 with batches of 1024 is beyond after 680 iterations, ThinResNet-101 without
batch normalisation after 840."""
PATIENCE = 1000
"""Iterations at guessing after which a run is called not converged."""
STOPPED_PATIENCE, STOPPED_SHARE = 500, 0.01
"""The same where somebody stopped the run on purpose before that share of ``max_iter``."""
ABOVE, ABOVE_PATIENCE = 0.1, 500
"""How far above guessing a loss may end after that many iterations: until then a start may be wild."""
FAR, FAR_PATIENCE = 1.3, 100
"""Times guessing that the loss may be after that many iterations."""


def verdict(sessions: Sequence[Session], stitched: Stitched, config: Config, classes: int | None) -> tuple[str, str]:
    """Status and reason of a run."""
    if not len(stitched):
        crashed = [one for one in sessions if one.ended == "crashed"]
        return ("crashed", crashed[-1].reason) if crashed else ("empty", "no iteration in the log")
    last = sessions[-1]
    if last.ended == "not_converged":
        return last.ended, last.reason
    failed = _not_converged(stitched, classes, last.ended == "stopped", config.max_iter)
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


def _not_converged(stitched: Stitched, classes: int | None, stopped: bool, max_iter: int | None) -> str:
    """Why a run is called not converged; empty where it is not."""
    (shown, losses), (shown_last, losses_last) = stitched.ends("loss", "train", _ENOUGH)
    if not len(losses):
        return ""
    end = losses_last[-LAST:]
    if not np.isfinite(end[-1]) or np.isfinite(end).mean() < 0.5:
        return "the loss became NaN or infinite"
    scale = sum(metric.weight or 0.0 for _, metric in stitched.named("train") if metric.index >= 0) or 1.0
    if abs(np.median(end) - DEAD_SOFTMAX * scale) < 0.01:
        return f"the loss stayed at {DEAD_SOFTMAX * scale:g}, a dead softmax"
    if classes is None:
        return ""
    # With several losses (GoogLeNet) Caffe shows their weighted sum.
    chance = math.log(classes) * scale
    guessing = f"guessing ({'' if scale == 1 else f'{scale:g} x '}ln {classes} = {chance:.3g})"
    final = float(np.median(end[np.isfinite(end)]))
    iterations = int(shown_last[-1] - shown[0])
    if final > chance * FAR and iterations >= FAR_PATIENCE:
        return f"the loss ended at {final:.4g}, far above {guessing}"
    if final > chance + ABOVE * scale and iterations >= ABOVE_PATIENCE:
        return f"the loss ended at {final:.4g}, above {guessing}"
    if final < chance - MARGIN * scale:
        return ""
    best = min(_best(losses), _best(losses_last))
    early = stopped and max_iter is not None and iterations < max_iter * STOPPED_SHARE
    if best > chance - MARGIN * scale and iterations >= (STOPPED_PATIENCE if early else PATIENCE):
        return f"the loss stayed at {guessing} for {iterations:,} iterations{', then it was stopped' if early else ''}"
    return ""


def _best(losses: npt.NDArray[np.float64]) -> float:
    """The lowest median of ``LAST`` losses in a row."""
    told = np.where(np.isnan(losses), np.inf, losses)
    windows = np.lib.stride_tricks.sliding_window_view(told, min(LAST, len(told)))
    return float(np.median(windows, axis=1).min())


_ENOUGH = 100_000  # displayed losses at either end that are looked at, at least
