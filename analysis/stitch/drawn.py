"""One metric's curve as plain arrays, made smaller where it has millions of points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import ColumnTable

if TYPE_CHECKING:
    from caffebench.analysis.stitch.curves import Chunk

__all__ = ["MANY", "Curve", "Drawn", "added", "binned", "drawn", "extremes", "rates_of"]

MANY = 2_000_000
"""Rows of a run from which on its curves are made smaller before anything is drawn."""
GROUPS = 200_000
"""Groups of neighbours that such a run is divided into, about."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Curve(ColumnTable):
    """Points in order; NaN where something is not known."""

    iteration: Array
    epoch: Array
    seconds: Array
    lr: Array
    value: Array


@dataclass(frozen=True)
class Drawn:
    """What is drawn of a curve."""

    envelope: Curve
    """All points; of a run with ``MANY`` rows the first, the last, the least and the greatest of each group."""
    group_means: Curve
    """All points; of a run with ``MANY`` rows the mean of each group: of this a mean over neighbours is taken."""
    group: int
    """Points that were a group, 1 where all are there."""
    count: int
    """Points that the curve has."""


def drawn(chunks: Iterable[Chunk], rows: int) -> Drawn:
    """What to draw of the curve whose points are in ``chunks``, in order.

    ``rows`` is the number of rows of its run, of all metrics: from ``MANY`` on the curve is made smaller.
    """
    group = 1 if rows <= MANY else -(-rows // GROUPS)
    raw, even, count = list[Curve](), list[Curve](), 0
    for chunk in chunks:
        curve = Curve(chunk.rows.iteration, chunk.epochs, chunk.seconds, chunk.rows.lr, chunk.rows.value)
        count += len(curve)
        if group == 1 or not len(curve):
            raw.append(curve)
            continue
        starts = np.arange(0, len(curve), group)
        raw.append(curve[extremes(curve.value, starts)])
        even.append(binned(curve, len(starts)))
    every = Curve.joined(raw)
    return Drawn(every, every if group == 1 else Curve.joined(even), group, count)


def added(curves: Sequence[tuple[Drawn, float]]) -> Drawn | None:
    """The sum of ``curves``, each times the factor beside it, at the iterations that all have.

    None where they have none in common, or several points at one.
    """
    first = curves[0][0]
    if len(curves) == 1:
        return first
    shown = first.envelope.iteration
    for other, _ in curves[1:]:
        shown = shown[np.isin(shown, other.envelope.iteration)]
    parts = [(one.envelope[np.isin(one.envelope.iteration, shown)], factor) for one, factor in curves]
    if not len(shown) or any(len(part) != len(parts[0][0]) for part, _ in parts):
        return None
    total = replace(parts[0][0], value=np.sum([factor * part.value for part, factor in parts], axis=0))
    return Drawn(total, total, 1, len(total))


def rates_of(losses: Drawn) -> Drawn:
    """The learning rate at the points of the train loss."""
    known = losses.envelope[~np.isnan(losses.envelope.lr)]
    known = replace(known, value=known.lr)
    return Drawn(known, known, losses.group, losses.count)


def binned(curve: Curve, bins: int) -> Curve:
    """The mean of each of at most so many stretches of neighbours, all of one length, at the middle of each."""
    starts = np.arange(0, len(curve), max(1, -(-len(curve) // bins)))
    middle = curve[(starts + np.append(starts[1:], len(curve))) // 2]
    return replace(middle, value=_means(curve.value, starts))


def extremes(values: Array, starts: Array) -> Array:
    """Indexes, ascending, of the first, last, least and greatest of each group, and of the first that is no number.

    ``starts`` are the indexes at which groups of ``values`` begin, from 0.
    """
    sizes = np.diff(starts, append=len(values))
    nan, group = np.isnan(values), np.repeat(np.arange(len(starts)), sizes)
    kept = [starts, starts + sizes - 1]
    alike = [nan]
    for reduce, filler in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        filled = np.where(nan, filler, values)
        alike.append((filled == reduce.reduceat(filled, starts)[group]) & ~nan)
    for places in map(np.flatnonzero, alike):
        kept.append(places[np.flatnonzero(np.diff(group[places], prepend=-1))])
    found: Array = np.unique(np.concatenate(kept))
    return found


def _means(values: Array, starts: Array) -> Array:
    """The mean of each group, without what is no number; NaN where nothing is."""
    good = np.isfinite(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        means: Array = np.add.reduceat(np.where(good, values, 0.0), starts) / np.add.reduceat(good.astype("i8"), starts)
    return means
