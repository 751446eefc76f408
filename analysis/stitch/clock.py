"""Training seconds and images seen, by iteration, of what survives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import NO_TIME, ParsedRows

__all__ = ["Phases", "SessionClock", "Trace", "between", "images_between", "read_phases"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_MOST = 2**31  # of what Caffe counts in an int
Phases = tuple[tuple[int, float], ...]
"""Of a run in phases, the iteration up to which each goes, and the images of an iteration in it."""


class SessionClock(NamedTuple):
    """How the seconds and the images of one session's rows are reckoned."""

    began: int
    """Time at which training began in it, microseconds."""
    seconds_before: float
    """Training seconds that led to its start."""
    least: float
    """Training seconds that came before, whatever its own clock says."""
    start: int
    """The iteration at which it started."""
    images_before: float
    batch_size: int | None
    """Images of an iteration where no phases say it."""
    phases: Phases
    train_size: int | None

    def seconds(self, rows: ParsedRows) -> Floats:
        """Training seconds (n) up to each row, none less than ``least`` or the one before; NaN without a time."""
        facts = rows.facts
        known = slice(None) if facts.timed else rows.time != NO_TIME
        since = (rows.time[known] - self.began) / 1e6 + self.seconds_before
        since = np.maximum(since if facts.times_rise else np.maximum.accumulate(since), self.least)
        if facts.timed:
            return since
        found = np.full(len(rows), np.nan)
        found[known] = since
        return found

    def images(self, iterations: Ints) -> Floats:
        """Images seen up to each iteration; NaN where the batch size is not known."""
        return self.images_before + images_between(self.batch_size, self.phases, iterations, self.start)

    def epochs(self, iterations: Ints) -> Floats:
        """Epochs up to each iteration; NaN if not known."""
        return self.images(iterations) / (self.train_size or np.nan)


def read_phases(run: Mapping[str, Any]) -> Phases:
    """The phases of a run, as our launcher's event ``run`` tells them, or, in an older version, the file's header."""
    found: list[tuple[int, float]] = []
    header = run.get("header")
    told = run.get("phases") or (header.get("phases") if isinstance(header, dict) else None)
    for phase in told if isinstance(told, list) else ():
        match phase:
            case {"until": int(until), "batch_size": int(images)}:
                times = phase.get("iter_size") or 1
            case [int(until), int(images)]:
                times = 1
            case _:
                continue
        if isinstance(times, int):
            found.append((min(max(until, 0), 10**15), float(min(images, _MOST)) * min(times, _MOST)))
    return tuple(found)


def images_between(batch_size: int | None, phases: Phases, iterations: Ints, start: int) -> Floats:
    """Images seen between iteration ``start`` and each of ``iterations`` (n): float64 (n), NaN if not known.

    ``batch_size`` is that of an iteration, None if not known; ``phases`` overrule it.
    """
    if not phases:
        trained: Floats = (iterations - start).astype("f8")
        return trained * (np.nan if batch_size is None else float(batch_size))
    edges, sizes = map(list, zip(*phases, strict=True))
    points = np.concatenate([[0], np.array(edges, "f8"), [1e15]])
    images = np.concatenate([[0.0], np.cumsum(np.diff(points) * np.array([*sizes, sizes[-1]], "f8"))])
    seen: Floats = np.interp(iterations, points, images) - float(np.interp(start, points, images))
    return seen


class Trace(NamedTuple):
    """How far training had come when: points (n) of one session, with iterations that rise."""

    iterations: Ints
    seconds: Floats
    images: Floats

    def until(self, iteration: int) -> Trace:
        """The points before ``iteration``."""
        count = int(np.searchsorted(self.iterations, iteration, "left"))
        return Trace(self.iterations[:count], self.seconds[:count], self.images[:count])


def between(traces: list[Trace], rolled_back: Trace | None, iteration: int) -> tuple[float, float]:
    """Training seconds and images at ``iteration``: of the last point there, else in a line between its neighbours.

    ``traces`` follow each other, with iterations that rise; ``rolled_back``, the one that was thrown away last (or
    None), begins at or behind ``iteration``. 0 and 0 without any point.
    """
    points: list[tuple[int, float, float]] = []
    if traces:
        top = traces[-1]
        at = int(np.searchsorted(top.iterations, iteration, "right"))
        for index in (at - 1, at):
            if 0 <= index < len(top.iterations):
                points.append((int(top.iterations[index]), float(top.seconds[index]), float(top.images[index])))
    if rolled_back is not None and len(rolled_back.iterations):
        at = max(int(np.searchsorted(rolled_back.iterations, iteration, "right")) - 1, 0)
        where = int(rolled_back.iterations[at])
        if not points or where == iteration or points[-1][0] < iteration:
            points.append((where, float(rolled_back.seconds[at]), float(rolled_back.images[at])))
    if not points:
        return 0.0, 0.0
    places = [point[0] for point in points]
    return (
        float(np.interp(iteration, places, [point[1] for point in points])),
        float(np.interp(iteration, places, [point[2] for point in points])),
    )
