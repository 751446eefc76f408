"""What a log says, in columns and events: the hand-off from reading to stitching."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read._lines import TemplateTable
from caffebench.analysis.read._rows import look, pairs

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "LOSS",
    "LR",
    "NO_TIME",
    "TEST",
    "TESTING",
    "TRAIN",
    "TYPES",
    "ColumnTable",
    "CurveRows",
    "LogEvent",
    "Metric",
    "MetricRegistry",
    "ParsedLog",
    "ParsedRows",
    "RowFacts",
]

LOSS, LR, TRAIN, TEST, TESTING = range(5)
"""Kinds: the loss of an ``Iteration`` line, a learning rate that stands alone, an output of the train net, of a test
net; and, only while a log is read, the line that announces a test."""

NO_TIME = -(2**63)
Array = npt.NDArray[Any]

TYPES = {
    "iteration": "i8",
    "metric": "i4",
    "net": "i2",
    "kind": "u1",
    "byte_offset": "i8",
    "start": "i8",
    "time": "i8",
    "pid": "i4",
}
"""Of columns by their names; the others are float64."""


@dataclass(frozen=True)
class ColumnTable:
    """Columns of equal length, the fields of a subclass; they are not to be changed."""

    names: ClassVar[tuple[str, ...]] = ()
    """Of the columns, in order."""
    types: ClassVar[list[np.dtype[Any]]] = []

    def __init_subclass__(cls) -> None:
        """Take the fields of a subclass as columns, behind those of the class that it extends."""
        cls.names = (*cls.names, *cls.__annotations__)
        cls.types = [np.dtype(TYPES.get(name, "f8")) for name in cls.names]

    def __len__(self) -> int:
        """Number of rows."""
        return len(getattr(self, self.names[0]))

    def __getitem__(self, chosen: Any) -> Self:
        """The rows at a slice, a mask or indexes; the table itself where a slice has all."""
        if isinstance(chosen, slice) and chosen.indices(len(self)) == (0, len(self), 1):
            return self
        return type(self)(*[column[chosen] for column in self.columns])

    @property
    def columns(self) -> list[Array]:
        """The columns, in order."""
        return [getattr(self, name) for name in self.names]

    @classmethod
    def space(cls, rows: int) -> Self:
        """As many rows, with anything in them."""
        return cls(*[np.empty(rows, one) for one in cls.types])

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All rows of all parts, in their order."""
        if not parts:
            return cls.space(0)
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.names))


@dataclass(frozen=True)
class CurveRows(ColumnTable):
    """The columns of values that are kept for good."""

    iteration: Array
    """int64."""
    value: Array
    """float64."""
    lr: Array
    """float64: the learning rate of that iteration; NaN where the log does not tell it nearby."""
    metric: Array
    """int32: id in the ``MetricRegistry``."""
    net: Array
    """int16: test net, -1 for the train net."""
    kind: Array
    """uint8."""

    def pairs(self) -> list[tuple[int, int, int]]:
        """Kind, metric and net of the rows, each once, in the order of their first rows."""
        return pairs(self.kind, self.metric, self.net)


@dataclass(frozen=True)
class ParsedRows(CurveRows):
    """The same with what tells where a row belongs, in the order of the log."""

    byte_offset: Array
    """int64: of the line."""
    time: Array
    """int64: microseconds since 1970, local time; ``NO_TIME`` where the line has no prefix."""
    pid: Array
    """int32: the process, or thread, that wrote the line; -1 - rank where what stands before the line tells one."""

    @cached_property
    def facts(self) -> RowFacts:
        """What is the same in most logs, and spares them what the others need."""
        return RowFacts(*look(self.iteration, self.kind, self.metric, self.net, self.time, self.pid))

    @property
    def losses(self) -> ParsedRows:
        """The train lines (``Iteration N, loss = ...``), which tell processes apart."""
        return self[np.flatnonzero(self.kind == LOSS)]


class RowFacts(NamedTuple):
    """What rows are like as a whole."""

    one_process: bool
    """One process wrote them all."""
    losses: int
    """How many are train lines (``LOSS``)."""
    losses_rise: bool
    """The iterations of the train lines never fall."""
    last_loss: int
    """The greatest iteration of the train lines, -1 without any."""
    times_rise: bool
    """All times are known, and never fall."""
    timed: bool
    """All times are known."""
    began: int
    """The least time that is known, ``NO_TIME`` without any."""
    ended: int
    """The greatest."""
    first: int
    """The least iteration, 0 without rows."""
    last: int
    """The greatest, -1 without rows."""
    each_once: bool
    """Iterations never fall, and no value is said twice at one; False also where there are too many to tell."""


@dataclass(frozen=True)
class Metric:
    """What a value is called: its name, its number among the outputs, and its weight in the loss if it has one."""

    name: str
    index: int = -1
    weight: float | None = None


class MetricRegistry:
    """Ids of metrics, one table for all files of a run, or of several small ones; it only grows."""

    MOST = 200_000  # more different names are noise; of a blob that nobody reads Caffe prints every value
    FEW = 40  # what one net says; several nets are quicker read apart

    def __init__(self) -> None:
        """None known yet."""
        self.known: list[Metric] = []
        self.table = TemplateTable()
        """What lines look like that tell these metrics (``templates``)."""
        self._indexes = np.empty(0, "i4")
        self._ids: dict[Metric, int] = {}
        self._lock = threading.Lock()

    def id_for(self, metric: Metric) -> int | None:
        """The id of ``metric``, a new one where it is new; None where there are too many."""
        with self._lock:
            found = self._ids.get(metric)
            if found is None and len(self.known) < self.MOST:
                found = self._ids[metric] = len(self.known)
                self.known.append(metric)
            return found

    @property
    def is_crowded(self) -> bool:
        """What is known is of several nets: for one more log a new registry is better."""
        return len(self.known) > self.FEW or self.table.count > 2 * self.FEW

    @property
    def indexes(self) -> Array:
        """The number among the outputs of each metric (n), int32; -1 for what has none."""
        if len(self._indexes) < len(self.known):
            self._indexes = np.array([one.index for one in self.known], "i4")
        return self._indexes

    def __getitem__(self, number: int) -> Metric:
        """The metric of an id."""
        return self.known[number]


class LogEvent(NamedTuple):
    """A line that is no value but says something about the run."""

    byte_offset: int
    kind: str
    """``LineFormat.kind``, or ``head``: a text before the first line of Caffe."""
    pid: int
    time: int
    """Microseconds as in ``ParsedRows.time``."""
    text: str = ""
    """What the format's first group matched; of a solver or net, the configuration that follows."""
    content: Mapping[str, Any] = MappingProxyType({})
    """Of an event line of our launcher, its fields; of a net, ``wiring``: what Caffe said while it was set up."""
    rank: int = -1
    """Of several that speak in one log, the number that stands before the line; -1 without."""

    @property
    def speaker(self) -> int:
        """Who says it: the process, or, where ranks are told, -1 - rank, as in ``ParsedRows.pid``."""
        return self.pid if self.rank < 0 else -1 - self.rank


class ParsedLog(NamedTuple):
    """What is in one log."""

    rows: ParsedRows
    events: tuple[LogEvent, ...]
    bad_lines: int = 0
    """Lines that begin like one of Caffe's but are cut, garbled, or have lost the line that says their iteration."""
    is_caffe: bool = False
    """There are lines with a prefix of Caffe, or values; without any it is no log of Caffe."""
    notes: tuple[str, ...] = ()
    """What was left out, in words."""
