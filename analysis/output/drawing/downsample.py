"""Curves made smaller for the eye: thinned without losing a spike, smoothed without losing a hole."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from caffebench.analysis.stitch.drawn import extremes

__all__ = ["downsample", "smooth"]

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


def downsample(x: npt.ArrayLike, y: npt.ArrayLike, buckets: int, *, log: bool = False) -> Places:
    """Indexes, ascending, of the points that draw the same line as all points do, ``buckets`` pixels wide.

    Of each bucket of equal width in ``x`` (in its logarithm if ``log``) the first, the last, the least and the
    greatest point stay, and the first that is no number, so that a hole stays a hole: at most 5 points a bucket
    (M4: Jugel, Jerzak, Hackenbroich, Markl, "M4: a visualization-oriented time series data aggregation", VLDB 2014).
    ``x`` (n) is ascending and finite; ``y`` (n) may hold anything. Raises ``ValueError`` for ``buckets`` below 1.
    """
    if buckets < 1:
        raise ValueError(f"buckets is {buckets}, must be at least 1")
    along, values = np.asarray(x, "f8"), np.asarray(y, "f8")
    if len(along) <= 4 * buckets:
        return np.arange(len(along))
    if log:
        # What a logarithmic axis cannot show (an iteration 0) counts as its left end.
        positive = along[along > 0]
        along = np.log(np.maximum(along, positive[0])) if len(positive) else along
    width = along[-1] - along[0]
    if width > 0:
        bucket = np.minimum(((along - along[0]) * (buckets / width)).astype("i8"), buckets - 1)
    else:
        bucket = np.arange(len(along)) * buckets // len(along)
    return extremes(values, np.flatnonzero(np.diff(bucket, prepend=-1)))


def smooth(values: npt.ArrayLike, window: int) -> Numbers:
    """The mean of the ``window`` values around each one, of fewer at both ends; what is no number is left out.

    ``window`` is made odd, so that the curve is not shifted. Where every value around is no number, so is the mean.
    Raises ``ValueError`` for a ``window`` below 1.
    """
    if window < 1:
        raise ValueError(f"window is {window}, must be at least 1")
    given = np.asarray(values, "f8")
    if not len(given):
        return given
    half = min(window // 2, len(given))
    good = np.isfinite(given)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        means: Numbers = _sums(np.where(good, given, 0.0), half) / _sums(good.astype("f8"), half)
    return means


def _sums(values: Numbers, half: int) -> Numbers:
    """The sum of each value and ``half`` of its neighbours on either side.

    Nothing is subtracted, or one large value would drown the small ones after it: of blocks as long as the window, each
    window is the end of one and the beginning of the next.
    """
    width, count = 2 * half + 1, len(values)
    blocks = np.zeros((count // width + 2, width))
    blocks.flat[half : half + count] = values
    ends = np.cumsum(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    beginnings = np.zeros_like(blocks)  # up to each place, without it
    np.cumsum(blocks[:, :-1], axis=1, out=beginnings[:, 1:])
    return ends[:count] + beginnings.ravel()[width : width + count]
