"""Training seconds and images seen, by iteration, of what survives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import NO_TIME, Rows

__all__ = ["Reckoning", "Timeline"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reckoning:
    """How the clock and the images of one session's rows are reckoned."""

    began: int
    """Time at which training began in it, microseconds."""
    seconds_before: float
    """Training seconds that led to its start."""
    start: int
    """The iteration at which it started."""
    images_before: float
    batch_size: int | None
    """Images of an iteration where ``phases`` do not say it."""
    header: Mapping[str, Any]
    train_size: int | None

    def seconds(self, time: Ints, least: float = -np.inf) -> Floats:
        """Training seconds up to each time, none less than ``least`` and none less than the one before."""
        found: Floats = np.maximum(np.maximum.accumulate((time - self.began) / 1e6) + self.seconds_before, least)
        return found

    def images(self, iterations: Ints) -> Floats:
        """Images seen up to each iteration; NaN where the batch size is not known."""
        return self.images_before + batches(self.batch_size, self.header, iterations, self.start)

    def epochs(self, iterations: Ints) -> Floats:
        """Epochs up to each iteration; NaN where that is not known."""
        return self.images(iterations) / (self.train_size or np.nan)


def batches(batch_size: int | None, header: Mapping[str, Any], iterations: Ints, start: int) -> Floats:
    """Images seen between ``start`` and each iteration."""
    phases = header.get("phases")
    edges, sizes = [], []
    if isinstance(phases, list):
        for phase in phases:
            if (
                isinstance(phase, dict)
                and isinstance(phase.get("until"), int)
                and isinstance(phase.get("batch_size"), int)
            ):
                edges.append(phase["until"])
                sizes.append(phase["batch_size"] * int(phase.get("iter_size") or 1))
    if not edges:
        trained: Floats = (iterations - start).astype("f8")
        return trained * (np.nan if batch_size is None else float(batch_size))
    points = np.concatenate([[0], np.array(edges, "f8"), [1e15]])
    widths = np.diff(points)
    images = np.concatenate([[0.0], np.cumsum(widths * np.array([*sizes, sizes[-1]], "f8"))])
    seen: Floats = np.interp(iterations, points, images) - float(np.interp(start, points, images))
    return seen


Points = tuple[Ints, Floats, Floats]
"""Iterations, seconds, images."""


class Timeline:
    """What is known of the sessions so far: points, and stretches of more points that are looked up when needed."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.iterations: Ints = np.empty(0, "i8")
        self.seconds: Floats = np.empty(0)
        self.images: Floats = np.empty(0)
        self._stretches: list[tuple[int, int, Callable[[], Points]]] = []

    def seconds_at(self, iteration: int) -> float:
        """Training time that led to ``iteration``; what a log lacks counts as none."""
        self._look_up(iteration)
        return float(np.interp(iteration, self.iterations, self.seconds)) if len(self.iterations) else 0.0

    def images_at(self, iteration: int, batch_size: int | None, header: Mapping[str, Any]) -> float:
        """Images seen up to ``iteration``; what a log lacks is taken to have been trained with ``batch_size``."""
        last = int(self.iterations[-1]) if len(self.iterations) else 0
        if iteration > last:
            seen = float(self.images[-1]) if len(self.iterations) else 0.0
            return seen + float(batches(batch_size, header, np.array([iteration]), last)[0])
        self._look_up(iteration)
        return float(np.interp(iteration, self.iterations, self.images)) if len(self.iterations) else 0.0

    def follow(
        self,
        rows: Rows,
        seconds: Floats,
        reckoning: Reckoning,
        snapshots: Mapping[int, int],
        stretches: list[tuple[int, int, Callable[[], Points]]],
    ) -> None:
        """Put a session's points in place of what it rolled back; ``snapshots`` are iterations and their times."""
        start = reckoning.start
        self._look_up(start)
        keep = self.iterations < start
        known = np.flatnonzero(rows.time != NO_TIME)
        written = np.array(list(snapshots) if len(known) else [], "i8")
        moments = np.array([snapshots[at] for at in written.tolist()], "f8")
        if len(known):
            moments = np.maximum((moments - float(rows.time[known[0]])) / 1e6 + float(seconds[known[0]]), 0.0)
        iterations = np.concatenate([rows.iteration, written])
        # At one iteration the snapshot counts: it comes last, and the order is stable.
        order = np.argsort(iterations, kind="stable")
        self.iterations = np.concatenate([self.iterations[keep], iterations[order]])
        self.seconds = np.concatenate([self.seconds[keep], np.concatenate([seconds, moments])[order]])
        self.images = np.concatenate([self.images[keep], reckoning.images(iterations)[order]])
        self._stretches = [one for one in self._stretches if one[1] < start] + stretches

    def _look_up(self, iteration: int) -> None:
        """Have all points near ``iteration``."""
        for stretch in [one for one in self._stretches if one[0] <= iteration <= one[1]]:
            self._stretches.remove(stretch)
            parts = zip(stretch[2](), (self.iterations, self.seconds, self.images), strict=True)
            iterations, seconds, images = (np.concatenate(both) for both in parts)
            order = np.argsort(iterations, kind="stable")
            self.iterations, self.seconds, self.images = iterations[order], seconds[order], images[order]
