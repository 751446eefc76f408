"""The rows of a log while it is read: lines are taken block by block, each column grows where it is."""

from __future__ import annotations

import numpy as np

from caffebench.analysis.read._rows import Heads, append
from caffebench.analysis.read.columns import TESTING, MetricRegistry, ParsedRows
from caffebench.analysis.read.templates import LineColumns

__all__ = ["GrowingRows"]


class GrowingRows:
    """Takes the lines of a log in their order; what one block leaves open, the next one closes."""

    def __init__(self, metrics: MetricRegistry, size: int = 0) -> None:
        """No row yet; ``metrics`` gave the ids, ``size`` is that of the log in bytes, as far as it is known."""
        self._metrics = metrics
        self._size = size
        self._columns = ParsedRows.space(0).columns
        self._count = 0
        self._heads = Heads()

    def copy(self) -> GrowingRows:
        """Another that continues from here."""
        other = GrowingRows(self._metrics)
        other._columns = [column[: self._count].copy() for column in self._columns]
        other._count, other._heads = self._count, self._heads.copy()
        return other

    def add(self, base: int, lines: LineColumns) -> int:
        """Take the lines of a block that begins at byte ``base``; returns how many had lost what they belong to."""
        need = self._count + int(np.count_nonzero(lines.kind <= TESTING))
        if need > len(self._columns[0]):
            # As many as the rest of the log is likely to have: memory that is never written to costs nothing. Column by
            # column, as two copies of a long log would be too much.
            done = base + int(lines.start[-1])
            rows = max(need, int(1.05 * need * self._size / (done + 1)), 2 * self._count if self._count else 0)
            for number, column in enumerate(self._columns):
                self._columns[number] = grown = np.empty(rows, column.dtype)
                if self._count:
                    grown[: self._count] = column[: self._count]
        self._count, bad = append(self._heads, self._count, base, self._metrics.indexes, *lines.columns, *self._columns)
        return bad

    def rows(self) -> ParsedRows:
        """The rows so far; nothing can be added then."""
        return ParsedRows(*(column[: self._count] for column in self._columns))
