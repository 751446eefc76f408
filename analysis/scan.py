"""One log to its rows and marks, in the order of the file: no judgement yet about what belongs where."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from caffebench.analysis.lines import FORMATS, HINT, PREFIX, microseconds

__all__ = ["LOSS", "LR", "NO_TIME", "ROW", "TEST", "TRAIN", "Mark", "Metric", "Scan", "scan"]

LOSS, LR, TRAIN, TEST = range(4)
"""Kinds of rows: the loss of an ``Iteration`` line, its learning rate, an output of the train net, of a test net."""

NO_TIME = np.iinfo(np.int64).min
ROW = np.dtype(
    [
        ("at", "i8"),  # byte offset of the line in the uncompressed log
        ("time", "i8"),  # microseconds, see lines.microseconds; NO_TIME where the line has no prefix
        ("iteration", "i8"),
        ("value", "f8"),
        ("pid", "i4"),
        ("metric", "i2"),  # index into Scan.metrics
        ("net", "i2"),  # test net, -1 for the train net
        ("kind", "u1"),
    ]
)
Rows = npt.NDArray[np.void]


@dataclass(frozen=True)
class Metric:
    """What a value is called: its name, its number among the outputs, and its weight in the loss if it has one."""

    name: str
    index: int = -1
    weight: float | None = None


@dataclass
class Mark:
    """A line that is no value but says something about the run."""

    at: int
    kind: str
    pid: int
    time: int
    text: str = ""
    content: dict[str, Any] = field(default_factory=dict)


@dataclass
class Scan:
    """What is in one log."""

    rows: Rows
    metrics: list[Metric]
    marks: list[Mark]
    lines: int = 0
    bad: int = 0
    """Lines that begin like one of Caffe's but are cut, garbled, or have lost the line that says their iteration."""
    caffe: int = 0
    """Lines with glog's prefix: where there is none, this is no log."""


_CLEAN = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
_LIMIT = 2**53  # an iteration beyond is noise, and would not be exact in a float either
_WIRING = re.compile(rb" (?:->|<-) |^(?:Setting up |Top shape: |Creating Layer |    with loss weight )")
_MOST = 100_000  # such lines of one net
_LONGEST = 4 << 20  # bytes of a configuration block that are kept


class _Scanner:
    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, float, int, int, int, int]] = []
        self.metrics: dict[Metric, int] = {}
        self.marks: list[Mark] = []
        self.bad = self.caffe = self.lines = 0
        # The line that says the iteration of the outputs below it: kind, iteration, net, time.
        self.context: tuple[int, int, int, int] | None = None
        self.last_output = -1
        self.orphans: list[tuple[int, int, float, int, int]] = []
        # The configuration block that is open, and its size.
        self.block: list[bytes] | None = []
        self.block_mark = Mark(0, "head", 0, NO_TIME)
        self.block_size = 0
        # The net that is being set up, and what Caffe says about it.
        self.net: Mark | None = None
        self.wiring: list[bytes] = []

    def metric(self, name: str, index: int = -1, weight: float | None = None) -> int:
        return self.metrics.setdefault(Metric(name, index, weight), len(self.metrics))

    def close_block(self) -> None:
        if self.block:
            self.block_mark.text = b"\n".join(self.block).decode(errors="replace")
            if self.block_mark.kind == "head":
                self.marks.append(self.block_mark)
        self.block = None
        self.block_size = 0

    def line(self, at: int, line: bytes) -> None:
        self.lines += 1
        prefix = PREFIX.search(line)
        if prefix is None:
            if self.block is not None and self.block_size < _LONGEST and not HINT.search(line):
                self.block.append(line)
                self.block_size += len(line)
            if not HINT.search(line):
                return
            pid, time, message = 0, NO_TIME, line
        else:
            self.caffe += 1
            self.close_block()
            found = microseconds(prefix)
            pid, time = int(prefix["pid"]) & 0x7FFFFFFF, NO_TIME if found is None else found
            message = line[prefix.end() :]
            if prefix["severity"] == b"F":
                self.marks.append(Mark(at, "fatal", pid, time, message.decode(errors="replace").strip()))
            if self.net is not None:
                self._wiring(message)
        if HINT.search(message) is None:
            return
        for form in FORMATS:
            match = form.pattern.search(message)
            if match is not None:
                if not getattr(self, f"_{form.kind}", self._mark)(at, pid, time, match, form.kind):
                    self.bad += 1
                return
        if (b"Iteration " in message and (b", loss" in message or b", lr" in message)) or b"net output #" in message:
            self.bad += 1

    def _wiring(self, message: bytes) -> None:
        """Keep what Caffe says while it sets up a net: the printed net itself is cut at glog's 30,000 characters."""
        if b"Network initialization done" in message or len(self.wiring) > _MOST:
            self.end_wiring()
        elif _WIRING.search(message):
            self.wiring.append(message)

    def end_wiring(self) -> None:
        if self.net is not None:
            self.net.content["wiring"] = b"\n".join(self.wiring).decode(errors="replace")
        self.net, self.wiring = None, []

    def _row(
        self, at: int, time: int, iteration: int, value: float, pid: int, metric: int, net: int, kind: int
    ) -> bool:
        self.rows.append((at, time, iteration, value, pid, metric, net, kind))
        return True

    def _loss(self, at: int, pid: int, time: int, match: re.Match[bytes], _kind: str) -> bool:
        iteration = int(match[1])
        if iteration > _LIMIT:
            return False
        self.context, self.last_output = (LOSS, iteration, -1, time), -1
        return self._row(at, time, iteration, float(match[2]), pid, self.metric("loss"), -1, LOSS)

    def _lr(self, at: int, pid: int, time: int, match: re.Match[bytes], _kind: str) -> bool:
        iteration = int(match[1])
        if iteration > _LIMIT:
            return False
        return self._row(at, time, iteration, float(match[2]), pid, self.metric("lr"), -1, LR)

    def _testing(self, at: int, pid: int, time: int, match: re.Match[bytes], _kind: str) -> bool:
        iteration, net = int(match[1]), int(match[2])
        if iteration > _LIMIT or net > 1000:
            return False
        self.context, self.last_output = (TEST, iteration, net, time), -1
        return True

    def _output(self, at: int, pid: int, time: int, match: re.Match[bytes], _kind: str) -> bool:
        kind = TRAIN if match[1] == b"Train" else TEST
        weight = None if match[5] is None else float(match[5])
        return self._value(at, pid, kind, int(match[2]), match[3].decode(errors="replace"), float(match[4]), weight)

    def _score(self, at: int, pid: int, time: int, match: re.Match[bytes], _kind: str) -> bool:
        return self._value(at, pid, TEST, int(match[1]), f"score{int(match[1])}", float(match[2]), None)

    def _value(self, at: int, pid: int, kind: int, index: int, name: str, value: float, weight: float | None) -> bool:
        """An output belongs to the line above that says an iteration; numbers that do not rise say it is missing."""
        if self.context is None or (self.context[0] == TEST) != (kind == TEST) or index <= self.last_output:
            return False
        _, iteration, net, time = self.context
        self.last_output = index
        return self._row(at, time, iteration, value, pid, self.metric(name, index, weight), net, kind)

    def _test_loss(self, at: int, pid: int, time: int, match: re.Match[bytes], _kind: str) -> bool:
        if self.context is None or self.context[0] != TEST:
            return False
        _, iteration, net, began = self.context
        return self._row(at, began, iteration, float(match[1]), pid, self.metric("total_loss", -1, 1.0), net, TEST)

    def _event(self, at: int, pid: int, time: int, match: re.Match[bytes], _kind: str) -> bool:
        try:
            content = json.loads(match[2])
        except (ValueError, RecursionError):
            return False
        self.marks.append(Mark(at, "event", pid, time, match[1].decode(errors="replace"), content))
        return True

    def _mark(self, at: int, pid: int, time: int, match: re.Match[bytes], kind: str) -> bool:
        said = match[1] if match.re.groups else match[0]
        mark = Mark(at, kind, pid, time, said.decode(errors="replace"))
        self.marks.append(mark)
        if kind in ("solver", "net"):
            self.block, self.block_mark = [], mark
            self.end_wiring()
        if kind == "net":
            self.net = mark
        return True


def scan(pieces: Iterable[bytes]) -> Scan:
    """Read a log from pieces of any size. Any bytes at all are taken; what is no line of Caffe is passed over."""
    scanner = _Scanner()
    rest, at = b"", 0
    for piece in pieces:
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        for line in lines:
            _feed(scanner, at, line)
            at += len(line) + 1
    if rest:
        _feed(scanner, at, rest)
    scanner.close_block()
    scanner.end_wiring()
    rows = np.array(scanner.rows, dtype=ROW)
    return Scan(rows, list(scanner.metrics), scanner.marks, scanner.lines, scanner.bad, scanner.caffe)


def _feed(scanner: _Scanner, at: int, line: bytes) -> None:
    if b"\x1b" in line:
        line = _CLEAN.sub(b"", line)
    if b"\r" in line:
        for part in line.split(b"\r"):
            if part:
                scanner.line(at, part)
    else:
        scanner.line(at, line)
