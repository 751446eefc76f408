"""The fast way through a log: most of its lines are of a few templates and differ only in time and numbers.

A template is the text between the process id and the first number, as `` solver.cpp:237] Iteration ``. One line of each
is read by the patterns of ``lines``; all others like it are found and read by compiled code (``_lines.pyx``). A line
that is not exactly of a template is left to the patterns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from caffebench.analysis.read import _lines
from caffebench.analysis.read.columns import LOSS, LR, TEST, TESTING, TRAIN, ColumnTable, Metric, MetricRegistry
from caffebench.analysis.read.lines import PREFIX, WORDS, LineFormat, find_format, midnight, to_number

if TYPE_CHECKING:
    from caffebench.analysis.read.labels import Step

Array = npt.NDArray[Any]

__all__ = ["NONE", "ODD", "PAD", "LineColumns", "LineTemplates", "meaning", "read_lines"]

PAD = b"\n" * 64
"""Follows every block, so that no look ahead reaches beyond it."""
ODD, NONE = 254, 255
"""Kinds of a line that the patterns are to look at, and of one that says nothing."""
_TRIES = 400  # lines of a block that are looked at for new templates
_WORDS = _lines.Words(WORDS)
_TEACHING = _lines.Words([b"Iteration ", b" net output #"])


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


class LineTemplates:
    """What is known of the lines of a log; it grows while blocks are read, by several threads at once."""

    def __init__(self, metrics: MetricRegistry) -> None:
        """``metrics`` gives the ids, and has the templates of other logs that are read with it."""
        self.metrics = metrics
        self.seen = bytearray(256)
        """Which templates the log has shown."""
        self.labels: dict[bytes, int] = {}
        """What stands before lines where no rank is told, and a number for each."""
        self.wrapping: tuple[Step, ...] = ()
        """What takes off what other programs put around the lines of the log, told by its first block."""

    def learn(self, line: bytes) -> bool:
        """Learn the template of ``line``; False where it says no value or is irregular."""
        prefix = PREFIX.match(line)
        found = find_format(line[prefix.end() :], True) if prefix is not None and prefix["pid"] else None
        if prefix is None or found is None or found[0].kind not in ("loss", "lr", "testing", "output"):
            return False
        match, kind, metric = found[1], *meaning(*found)
        number = -1 if metric is None else self.metrics.id_for(metric)
        if number is None or not match.re.groups or b"rank" in match.string[: match.start()]:
            return False
        begin = prefix.end() + match.start("value" if found[0].kind == "output" else "iteration")
        weighted = found[0].kind == "output" and match["weight"] is not None
        tail = match.string[match.end("value") : match.end("weight")] + b" = " if weighted else b""
        return self.metrics.table.add(line[prefix.end("pid") : begin], kind, number, tail)


_KINDS = {"loss": LOSS, "lr": LR, "testing": TESTING}


def meaning(form: LineFormat, match: re.Match[bytes]) -> tuple[int, Metric | None]:
    """The kind of row that a line gives, as in ``columns``, and its metric; None where it only announces a test."""
    kind, found = form.kind, match.groupdict()
    code, weight = _KINDS.get(kind, TEST), to_number(found["weight"]) if found.get("weight") else None
    if weight is not None and weight != weight:
        weight = None  # NaN is not equal to itself: it would be a new metric each time
    if code != TEST:
        return code, None if code == TESTING else Metric(kind)
    if kind == "test_loss":
        return code, Metric("total_loss", -1, 1.0)
    index = int(found["index"][:6]) if found.get("index") else -1
    name = f"score{index}" if kind == "score" else found["name"].decode(errors="replace")
    return TRAIN if found.get("phase") == b"Train" else TEST, Metric(name, index, weight)


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
            *(data, at, stop, line, tries > 0, _TEACHING, midnight, table, templates.seen, _WORDS, every_line),
            *columns.columns,
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
