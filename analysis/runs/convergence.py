"""The status of a run, by written rules, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from caffebench.analysis.runs.config import Config
from caffebench.analysis.runs.model import Session
from caffebench.analysis.stitch.curves import RunCurves
from caffebench.common.caffe_facts import DEAD_SOFTMAX

__all__ = ["verdict"]

LAST, FEWEST = 25, 3
"""Displayed losses whose median is called the loss at a place: single ones are noisy. Of few displays it is a half,
and so many at least."""
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
LEARNED = 0.1
"""Share of guessing by which the loss must have been below it once for a later return to be called a collapse."""
FAR, FAR_PATIENCE = 1.3, 100
"""Times guessing that the loss may be after that many iterations."""


def verdict(sessions: Sequence[Session], stitched: RunCurves, config: Config, classes: int | None) -> tuple[str, str]:
    """The status of a run (``Run.status``, but for ``tested``), and why, in words.

    ``sessions`` in true order, ``stitched`` the rows that survive of them, ``config`` the configuration of the run,
    ``classes`` its number of classes, None if not known: then nothing is compared with guessing.
    """
    if not len(stitched):
        crashed = [one for one in sessions if one.ended == "crashed"]
        return ("crashed", crashed[-1].reason) if crashed else ("empty", "no iteration in the log")
    # Starts that fail after a training has ended take nothing from it.
    trained = [one for one in sessions if one.trained]
    last = trained[-1] if trained and trained[-1].ended == "done" else sessions[-1]
    if last.ended == "not_converged":
        return last.ended, last.reason
    failed = _not_converged(stitched, config, classes, last.ended == "stopped")
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


def _not_converged(stitched: RunCurves, config: Config, classes: int | None, stopped: bool) -> str:
    """Why a run is called not converged; empty where it is not."""
    shown, losses = stitched.points("loss", "train")
    if not len(losses):
        return ""
    end = losses[-_width(losses) :].tolist()
    finite = [loss for loss in end if math.isfinite(loss)]
    if not math.isfinite(end[-1]) or len(finite) < 0.5 * len(end):
        return "the loss became NaN or infinite"
    scale = sum(metric.weight or 0.0 for _, metric in stitched.named("train") if metric.index >= 0) or 1.0
    if not any(map(math.isnan, end)) and abs(_median(end) - DEAD_SOFTMAX * scale) < 0.01:
        return f"the loss stayed at {DEAD_SOFTMAX * scale:g}, a dead softmax"
    # With several losses (GoogLeNet) Caffe shows their weighted sum.
    each = math.log(classes) * scale if classes is not None else None
    chance = config.guessing if config.losses_told else each
    if chance is None:
        return ""
    guessing = f"guessing ({chance:.3g})"
    if each is not None and math.isclose(chance, each):
        guessing = f"guessing ({'' if scale == 1 else f'{scale:g} x '}ln {classes} = {chance:.3g})"
    final = _median(finite)
    iterations = int(shown[-1] - shown[0])
    if final > chance * FAR and iterations >= FAR_PATIENCE:
        return f"the loss ended at {final:.4g}, far above {guessing}"
    if final > chance + ABOVE * scale and iterations >= ABOVE_PATIENCE:
        return f"the loss ended at {final:.4g}, above {guessing}"
    if final < chance - MARGIN * scale:
        return ""
    medians, middles = _medians(losses)
    learning = np.flatnonzero(medians < chance - MARGIN * scale)
    early = stopped and config.max_iter is not None and iterations < config.max_iter * STOPPED_SHARE
    if not len(learning):
        if iterations < (STOPPED_PATIENCE if early else PATIENCE):
            return ""
        return f"the loss stayed at {guessing} for {iterations:,} iterations{', then it was stopped' if early else ''}"
    since = int(shown[middles[learning[-1]]])
    if medians.min() < chance - LEARNED * chance and shown[-1] - since >= PATIENCE and len(medians) - learning[-1] > 1:
        return f"collapsed to guessing after iteration {since:,}: the loss stayed at {guessing} to the end"
    return ""


def _width(losses: npt.NDArray[np.float64]) -> int:
    """How many displayed losses are a place."""
    return min(LAST, len(losses), max(FEWEST, len(losses) // 2))


def _median(values: Sequence[float]) -> float:
    """Of a few numbers, without the module for it, whose import takes 3 ms."""
    ordered, half = sorted(values), len(values) // 2
    return (ordered[half] + ordered[~half]) / 2


def _medians(losses: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The median of the losses of a place, at a hundred thousand places at most, and the index of each middle."""
    known = np.where(np.isnan(losses), np.inf, losses)
    width = _width(known)
    windows = np.lib.stride_tricks.sliding_window_view(known, width)
    step = max(1, len(windows) // _PLACES)
    medians: npt.NDArray[np.float64] = np.median(windows[::step], axis=1)
    return medians, np.arange(len(medians)) * step + width // 2


_PLACES = 100_000
