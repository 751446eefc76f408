"""What survives of one session: its rows, stretch by stretch, most of them put away until they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import Values
from caffebench.analysis.read.store import Store
from caffebench.analysis.stitch.clock import Reckoning

__all__ = ["Chunk", "Part", "Stretch"]

Floats = npt.NDArray[np.float64]
Chosen = Callable[[Values], npt.NDArray[np.bool_]]
Key = tuple[int, int, int]
"""Kind, metric and net."""


class Chunk(NamedTuple):
    """Rows that are at hand, with their training seconds and epochs (NaN where not known)."""

    rows: Values
    seconds: Floats
    epochs: Floats


@dataclass
class Stretch:
    """Rows that are put away."""

    store: Store
    number: int
    count: int
    first: int
    last: int
    """Its least and greatest iteration."""
    pairs: tuple[Key, ...]
    """Kinds, metrics and nets in the order of their first rows."""
    hidden: tuple[int, float, float] | None = None
    """Of rows that nobody has looked at yet: what is to be added to their times (microseconds), the training seconds
    before them, and the learning rate where they say none. None where seconds and epochs are stored with the rows."""


@dataclass
class Part:
    """What survives of one session."""

    session: int
    reckoning: Reckoning
    stretches: list[Stretch]
    least: float = -np.inf
    """Training seconds that came before, whatever its own clock says."""
    limit: int | None = None
    """The last iteration that survives; None for all."""
    replaced: list[tuple[int, frozenset[Key]]] = field(default_factory=list)
    """Values at an iteration that a later session said again."""
    _seconds: float | None = None

    def until(self, iteration: int) -> None:
        """Drop the rows past ``iteration``."""
        if all(one.last <= iteration for one in self.stretches):
            return
        self._seconds = None
        self.limit = iteration if self.limit is None else min(self.limit, iteration)
        self.stretches = [one for one in self.stretches if one.first <= iteration]

    def replace(self, iteration: int, said: frozenset[Key]) -> None:
        """Drop the rows at ``iteration`` that were said again."""
        if any(one.first <= iteration <= one.last for one in self.stretches):
            self._seconds = None
            self.replaced.append((iteration, said))

    def chunks(self, chosen: Chosen | None = None, backwards: bool = False) -> Iterator[Chunk]:
        """The rows, or the chosen ones, stretch by stretch; chunks may be empty."""
        for one in reversed(self.stretches) if backwards else self.stretches:
            yield self.open(one, chosen)

    def pairs(self) -> list[Key]:
        """Kinds, metrics and nets in the order of their first rows."""
        found: dict[Key, None] = {}
        for one in self.stretches:
            found.update(dict.fromkeys(one.pairs if self._whole(one) else self.open(one).rows.pairs()))
        return list(found)

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(one.count if self._whole(one) else len(self.open(one).rows) for one in self.stretches)

    @property
    def last(self) -> int | None:
        """The greatest iteration; None where there is no row."""
        every = (
            one.last if self._whole(one) else int(self.open(one).rows.iteration.max(initial=-1))
            for one in self.stretches
        )
        last = max(every, default=-1)
        return last if last >= 0 else None

    @property
    def seconds(self) -> float:
        """Training seconds up to its last row; 0 where they are not known."""
        if self._seconds is None:  # looked up once: of hundreds of sessions each asks all before it
            known = (chunk.seconds[~np.isnan(chunk.seconds)] for chunk in self.chunks(backwards=True))
            self._seconds = next((float(one.max()) for one in known if len(one)), 0.0)
        return self._seconds

    def _whole(self, one: Stretch) -> bool:
        if self.limit is not None and one.last > self.limit:
            return False
        return not any(one.first <= iteration <= one.last for iteration, _ in self.replaced)

    def open(self, one: Stretch, chosen: Chosen | None = None) -> Chunk:
        """The rows of one of its stretches, or the chosen ones; other threads may do so at the same time."""
        columns = one.store.get(one.number)
        rows = Values(*columns[:6])
        keep: Any = slice(None)
        if not self._whole(one):
            keep = rows.iteration <= (rows.iteration if self.limit is None else self.limit)
            for iteration, said in self.replaced:
                for at in np.flatnonzero(rows.iteration == iteration):
                    keep[at] &= (int(rows.kind[at]), int(rows.metric[at]), int(rows.net[at])) not in said
            if chosen is not None:
                keep &= chosen(rows)
        elif chosen is not None:
            keep = chosen(rows)
        rows = rows[keep]
        if one.hidden is None:
            return Chunk(rows, columns[6][keep], columns[7][keep])
        shift, before, rate = one.hidden
        seconds = self.reckoning.seconds(columns[6][keep] + shift, max(self.least, before))
        if len(rows) and np.isnan(rows.lr[0]):
            rows.lr = np.full(len(rows), rate)
        return Chunk(rows, seconds, self.reckoning.epochs(rows.iteration))
