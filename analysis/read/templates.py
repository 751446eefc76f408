"""The fast way through a log: most of its lines are of a few templates and differ only in time and numbers.

A template is the text between the process id and the first number, as `` solver.cpp:237] Iteration ``. One line of each
is read by the patterns of ``lines``; all others like it are found and read by compiled code (``_lines.pyx``). A line
that is not exactly of a template is left to the patterns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from caffebench.analysis.read import _lines
from caffebench.analysis.read.columns import LOSS, LR, TEST, TESTING, TRAIN, ColumnTable, Metric, MetricRegistry
from caffebench.analysis.read.lines import PREFIX, WORDS, midnight

Array = npt.NDArray[Any]

__all__ = ["NONE", "ODD", "PAD", "LineColumns", "LineTemplates", "output_metric", "read_lines"]

PAD = b"\n" * 64
"""Follows every block, so that no look ahead reaches beyond it."""
ODD, NONE = 254, 255
"""Kinds of a line that the patterns are to look at, and of one that says nothing."""
_TRIES = 400  # lines of a block that are looked at for new templates
_WORDS = _lines.Words(WORDS)


@dataclass(frozen=True)
class LineColumns(ColumnTable):
    """A block's lines while they are read: what each says, in the order in which the compiled code takes it."""

    start: Array
    """int64: offset in the block."""
    kind: Array
    """uint8."""
    time: Array
    iteration: Array
    value: Array
    pid: Array
    metric: Array
    net: Array
    """The others are those of ``ParsedRows``, of lines that are ``ODD`` or ``NONE`` anything."""

    def put(self, line: int, *said: float) -> None:
        """Say what a line is: a value for each column behind ``start``."""
        for column, value in zip(self.columns[1:], said, strict=True):
            column[line] = value


_BEGIN = re.compile(
    rb"(?:Iteration (?=\d+[ ,][^\n]*?\b(?P<value>loss = |lr = |Testing net \())"
    rb"|(?P<phase>Train|Test) net output #(?P<index>\d+): (?P<name>\S[^\n]*?) = "
    rb"(?=\S+(?P<tail> \(\* (?P<weight>\S+) = )?))"
)


class LineTemplates:
    """What is known of the lines of a log; it grows while blocks are read, by several threads at once."""

    def __init__(self, metrics: MetricRegistry) -> None:
        """``metrics`` gives the ids, and has the templates of other logs that are read with it."""
        self.metrics = metrics
        self.seen = bytearray(256)
        """Which templates the log has shown."""
        self.labels: dict[bytes, int] = {}
        """What stands before lines where no rank is told, and a number for each."""

    def learn(self, line: bytes) -> bool:
        """Learn the template of ``line``; False where it says no value or is irregular."""
        prefix = PREFIX.match(line)
        found = _BEGIN.search(line, prefix.end()) if prefix is not None else None
        if prefix is None or not prefix["pid"] or found is None or b"rank" in line[prefix.end() : found.start()]:
            return False
        number: int | None
        if found["value"]:
            kind = {b"loss = ": LOSS, b"lr = ": LR}.get(found["value"], TESTING)
            number = -1 if kind == TESTING else self.metrics.id_for(Metric("loss" if kind == LOSS else "lr"))
        else:
            kind = TRAIN if found["phase"] == b"Train" else TEST
            number = self.metrics.id_for(output_metric(found["name"], found["index"], found["weight"]))
        if number is None:
            return False
        return self.metrics.table.add(line[prefix.end("pid") : found.end()], kind, number, found["tail"] or b"")


def output_metric(name: bytes, index: bytes, weight: bytes | None) -> Metric:
    """The metric of an output line, from the texts of its name, its number and its weight (None without one).

    A weight that is no number counts as none.
    """
    try:
        factor = None if weight is None else float(weight)
    except ValueError:
        factor = None
    if factor is not None and factor != factor:
        factor = None  # NaN is not equal to itself: it would be a new metric each time
    return Metric(name.decode(errors="replace"), int(index) if len(index) < 7 else 999_999, factor)


def read_lines(
    data: bytearray, size: int, stop: int, templates: LineTemplates, *, every_line: bool = False
) -> tuple[LineColumns, bool]:
    """Cut a block into lines, and read those that are of a template; also whether any has glog's prefix.

    The first ``size`` bytes of ``data`` are the block, and ``PAD`` must follow them; from ``stop`` on there is at most
    one line, which is still open. ``templates`` grow by what the block teaches. Lines of no template are ``ODD``, to
    be read by the patterns, where they hold one of ``WORDS``; with ``every_line`` all of them.
    """
    columns, has_prefix = LineColumns.space(size // 48 + 16), False
    table, tries = templates.metrics.table, _TRIES
    line = at = 0
    while at < stop:
        line, at, unknown, prefixed = _lines.read(
            data, at, stop, line, tries > 0, midnight, table, templates.seen, _WORDS, every_line, *columns.columns
        )
        has_prefix |= prefixed
        if unknown:
            start = int(columns.start[line - 1])
            tries -= 1
            if templates.learn(bytes(data[start : data.index(b"\n", start)])):
                line, at = line - 1, start
            else:
                columns.kind[line - 1] = ODD
        if line == len(columns):
            columns = LineColumns.joined([columns, LineColumns.space(line)])
    if stop < size:  # a line that is open
        columns.start[line], columns.kind[line] = stop, ODD
        line += 1
    return columns[:line], has_prefix
