"""The fast way through a log: most of its lines are of a few shapes and differ only in time and numbers.

A shape is the text between the process id and the first number, as `` solver.cpp:237] Iteration ``. One line of each is
read by the patterns of ``lines``; all others of its shape are found and read by compiled code (``_shaped.pyx``). A line
that is not exactly of a shape is left to the patterns.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read import _shaped
from caffebench.analysis.read.columns import LOSS, LR, TEST, TESTING, TRAIN, Metric, Metrics
from caffebench.analysis.read.lines import PREFIX, UNKNOWN_YEAR

Array = npt.NDArray[Any]

__all__ = ["NONE", "PAD", "Columns", "Shapes", "output_metric", "read_shaped"]

PAD = b"\n" * 64
"""Follows every block, so that no look ahead reaches beyond it."""
NONE = 255
"""Kind of a line that says no value."""
_LOOK = 400  # lines of a block that are looked at for new shapes


class Columns:
    """A block's lines: what each says, by number of line; ``kind`` is ``NONE`` where it says no value."""

    def __init__(self, lines: int) -> None:
        """Room for a number of lines."""
        self.start = np.empty(lines, "i8")
        self.kind = np.empty(lines, "u1")
        self.time = np.empty(lines, "i8")
        self.iteration = np.empty(lines, "i8")
        self.value = np.empty(lines, "f8")
        self.pid = np.empty(lines, "i4")
        self.metric = np.empty(lines, "i2")
        self.net = np.empty(lines, "i2")

    def all(self) -> tuple[Array, Array, Array, Array, Array, Array, Array, Array]:
        """The columns in the order in which the compiled code takes them."""
        return (self.start, self.kind, self.time, self.iteration, self.value, self.pid, self.metric, self.net)

    def resize(self, lines: int) -> None:
        """Room for another number of lines; what there is stays."""
        for name, column in vars(self).items():
            grown = np.empty(lines, column.dtype)
            kept = min(lines, len(column))
            grown[:kept] = column[:kept]
            setattr(self, name, grown)

    def cut(self, lines: int) -> None:
        """Only the first ``lines``."""
        for name, column in vars(self).items():
            setattr(self, name, column[:lines])

    def put(
        self, line: int, kind: int, time: int, pid: int, iteration: int, value: float, metric: int, net: int
    ) -> None:
        """Say what a line is."""
        self.kind[line] = kind
        self.time[line] = time
        self.pid[line] = pid
        self.iteration[line] = iteration
        self.value[line] = value
        self.metric[line] = metric
        self.net[line] = net


_BEGIN = re.compile(
    rb"(?:Iteration (?=\d+(?: \([^()\n]*\))?, (?P<said>loss|lr|Testing))"
    rb"|(?P<phase>Train|Test) net output #(?P<index>\d+): (?P<name>\S[^\n]*?) = "
    rb"(?=\S+(?P<tail> \(\* (?P<weight>\S+) = )?))"
)


class Shapes:
    """The shapes that are known so far; they grow while blocks are read, by several threads at once."""

    def __init__(self, metrics: Metrics) -> None:
        """``metrics`` gives the codes."""
        self.metrics = metrics
        self.table = _shaped.Table()

    def learn(self, line: bytes) -> bool:
        """Learn the shape of ``line``; False where it says no value or is irregular."""
        prefix = PREFIX.match(line)
        found = _BEGIN.search(line, prefix.end()) if prefix is not None else None
        if prefix is None or found is None or line[prefix.end() : found.start()].strip():
            return False
        code: int | None
        if found["said"] == b"Testing":
            kind, code = TESTING, -1
        elif found["said"]:
            kind = LOSS if found["said"] == b"loss" else LR
            code = self.metrics.code(Metric("loss" if kind == LOSS else "lr"))
        else:
            kind = TRAIN if found["phase"] == b"Train" else TEST
            code = self.metrics.code(output_metric(found["name"], found["index"], found["weight"]))
        if code is None:
            return False
        return self.table.add(line[prefix.end("pid") : found.end()], kind, code, found["tail"] or b"")


def output_metric(name: bytes, index: bytes, weight: bytes | None) -> Metric:
    """The metric of an output line."""
    try:
        said = None if weight is None else float(weight)
    except ValueError:
        said = None
    if said is not None and said != said:
        said = None  # NaN is not equal to itself: it would be a new metric each time
    return Metric(name.decode(errors="replace"), int(index) if len(index) < 7 else 999_999, said)


def read_shaped(data: bytearray, size: int, stop: int, shapes: Shapes) -> Columns:
    """The ``size`` bytes of ``data`` (``PAD`` behind them) as lines; those before ``stop`` of some shape are read."""
    columns = Columns(size // 48 + 16)
    line = at = 0
    tries = _LOOK
    while at < stop:
        line, at, unknown = _shaped.read(data, at, stop, line, tries > 0, UNKNOWN_YEAR, shapes.table, *columns.all())
        if unknown:
            start = int(columns.start[line - 1])
            tries -= 1
            if shapes.learn(bytes(data[start : data.index(b"\n", start)])):
                line, at = line - 1, start
        elif at < stop:
            columns.resize(2 * line)
    if stop < size:  # a line that is open
        columns.resize(line + 1)
        columns.start[line], columns.kind[line] = stop, NONE
        line += 1
    columns.cut(line)
    return columns
