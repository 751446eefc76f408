"""Rows in columns: what a log says, before anybody asks for a table."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read._rows import pairs

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LOSS", "LR", "NO_TIME", "TEST", "TRAIN", "Aligned", "Metric", "Metrics", "Rows", "Values"]

LOSS, LR, TRAIN, TEST, TESTING = range(5)
"""Kinds: the loss of an ``Iteration`` line, a learning rate that stands alone, an output of the train net, of a test
net; and, only while a log is read, the line that announces a test."""

NO_TIME = -(2**63)
Array = npt.NDArray[Any]


@dataclass
class Aligned:
    """Columns of equal length, the fields of a subclass."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(getattr(self, fields(self)[0].name))

    def __getitem__(self, chosen: Any) -> Self:
        """The rows at a slice, a mask or indexes."""
        return type(self)(*(getattr(self, one.name)[chosen] for one in fields(self)))

    @classmethod
    def none(cls) -> Self:
        """No rows."""
        return cls(*(np.empty(0, _TYPES.get(one.name, "f8")) for one in fields(cls)))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All rows of all parts, in their order."""
        if not parts:
            return cls.none()
        return cls(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)))


@dataclass
class Values(Aligned):
    """What is kept of a log for good."""

    iteration: Array
    """int64."""
    value: Array
    """float64."""
    lr: Array
    """float64: the learning rate of that iteration; NaN where the log does not tell it nearby."""
    metric: Array
    """int16: code of ``Metrics``."""
    net: Array
    """int16: test net, -1 for the train net."""
    kind: Array
    """uint8."""

    def pairs(self) -> list[tuple[int, int, int]]:
        """Kind, metric and net of the rows, each once, in the order of their first rows."""
        return pairs(self.kind, self.metric, self.net)


@dataclass
class Rows(Values):
    """The same with what tells where a row belongs, in the order of the log."""

    at: Array
    """int64: byte offset of the line."""
    time: Array
    """int64: microseconds, see ``lines.microseconds``; ``NO_TIME`` where the line has no prefix."""
    pid: Array
    """int32: the process, or thread, that wrote the line."""

    gap: Array
    """int32: number of the hidden stretch of rows that follows here, -1 for none (``scan.Hidden``)."""

    def stored(self) -> list[Array]:
        """The columns that hidden rows need: those that are kept for good, and the time."""
        return [*(getattr(self, one.name) for one in fields(Values)), self.time]

    def values(self) -> Values:
        """The columns that are kept for good."""
        return Values(*(getattr(self, one.name) for one in fields(Values)))


_TYPES = {
    "iteration": "i8",
    "value": "f8",
    "lr": "f8",
    "metric": "i2",
    "net": "i2",
    "kind": "u1",
    "at": "i8",
    "time": "i8",
    "pid": "i4",
    "gap": "i4",
}


@dataclass(frozen=True)
class Metric:
    """What a value is called: its name, its number among the outputs, and its weight in the loss if it has one."""

    name: str
    index: int = -1
    weight: float | None = None


class Metrics:
    """Codes of metrics, one table for all that is read together."""

    MOST = 30_000  # more different names than that are noise

    def __init__(self) -> None:
        """None known yet."""
        self.known: list[Metric] = []
        self._codes: dict[Metric, int] = {}
        self._lock = threading.Lock()

    def code(self, metric: Metric) -> int | None:
        """The code of ``metric``, a new one where it is new; None where there are too many."""
        with self._lock:
            code = self._codes.get(metric)
            if code is None and len(self.known) < self.MOST:
                code = self._codes[metric] = len(self.known)
                self.known.append(metric)
            return code

    def __getitem__(self, code: int) -> Metric:
        """The metric of a code."""
        return self.known[code]
