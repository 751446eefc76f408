"""One log to its rows and marks, in the order of the file: no judgement yet about what belongs where."""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from caffebench.analysis.lines import FORMATS, HINT, PREFIX, microseconds
from caffebench.analysis.rows import LOSS, LR, NO_TIME, TEST, TESTING, TRAIN, Metric, Metrics, Rows
from caffebench.analysis.shapes import LATER, PAD, Columns, Shapes, output_metric, read_shaped, times

__all__ = ["Mark", "Scan", "Scanner", "scan"]


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
    marks: list[Mark]
    bad: int = 0
    """Lines that begin like one of Caffe's but are cut, garbled, or have lost the line that says their iteration."""
    caffe: bool = False
    """There are lines with glog's prefix, or values: where there are none, this is no log of Caffe."""


_NOISE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\r(?=\n)")
_GLOG = re.compile(rb"^[IWEF](?:\d{4}|\d{8}) \d\d:\d\d:\d\d\.\d{6} ", re.MULTILINE)
_READY = re.compile(rb"^.*Network initialization done", re.MULTILINE)
_GARBLED = re.compile(rb"Iteration \d+.*, (?:loss|lr)|Testing net|net output #")
_LIMIT = 2**53  # an iteration beyond is noise, and would not be exact in a float either
_LONGEST = 4 << 20  # bytes of a configuration that are kept
_BLOCK = 1 << 20  # bytes that are read at once


class _Block:
    """One stretch of whole lines."""

    def __init__(self, data: bytes, base: int, shapes: Shapes, *, first: bool, ended: bool) -> None:
        """``data`` ends with ``PAD``; ``first``: it begins the log; ``ended``: more of the log follows it."""
        self.base = base
        self.metrics = shapes.metrics
        self.marks: list[Mark] = []
        self.bad = 0
        self.caffe = False
        if b"\x1b" in data or b"\r" in data:
            data = _NOISE.sub(b"", data).replace(b"\r", b"\n")
        self.size = len(data) - len(PAD)
        self.data = data
        ends = np.flatnonzero(np.frombuffer(data, "u1", self.size) == 10)
        self.starts = np.concatenate([[0], ends + 1])
        if self.starts[-1] == self.size:
            self.starts = self.starts[:-1]
        self.columns = Columns(len(self.starts))
        # The last line of a file that ends without a line's end may be cut in the middle of a number.
        open_end = len(self.starts) - 1 if not ended and data[self.size - 1 : self.size] != b"\n" else len(self.starts)
        self.open_end = open_end
        read_shaped(data, self.starts[:open_end], self.columns, shapes)
        self.caffe = bool((self.columns.kind != 255).any())
        self._others(first)
        self.rows = self._rows()

    def _others(self, first: bool) -> None:
        """Read the lines that are of no known shape, by the patterns."""
        odd = np.flatnonzero(self.columns.kind == 255)
        if not len(odd):
            return
        breaks = np.flatnonzero(np.diff(odd) > 1)
        lows = np.concatenate([[0], breaks + 1])
        highs = np.concatenate([breaks, [len(odd) - 1]])
        for low, high in zip(odd[lows].tolist(), odd[highs].tolist(), strict=True):
            begin = int(self.starts[low])
            end = int(self.starts[high + 1]) if high + 1 < len(self.starts) else self.size
            self._stretch(begin, end, head=first and begin == 0)

    def _stretch(self, begin: int, end: int, head: bool) -> None:
        if head:
            found = _GLOG.search(self.data, begin, end)
            stop = found.start() if found else end
            text = self.data[begin : min(stop, begin + _LONGEST)]
            if b": " in text:
                self.marks.append(Mark(self.base + begin, "head", 0, NO_TIME, text.decode(errors="replace")))
        if not self.caffe:
            self.caffe = _GLOG.search(self.data, begin, end) is not None
        while (found := HINT.search(self.data, begin, end)) is not None:
            low = self.data.rfind(b"\n", begin, found.start()) + 1 or begin
            begin = self.data.find(b"\n", found.start(), end)
            begin = begin + 1 if begin >= 0 else end
            self._line(low, self.data[low:begin].rstrip(b"\n"))

    def _line(self, at: int, line: bytes) -> None:
        prefix = None
        for prefix in PREFIX.finditer(line):  # noqa: B007 - the last: a cut line may run into a whole one
            pass
        if prefix is None:
            pid, time, message = 0, NO_TIME, line
        else:
            self.caffe = True
            found = microseconds(prefix)
            pid, time = int(prefix["pid"][-10:]) & 0x7FFFFFFF, NO_TIME if found is None else found
            message = line[prefix.end() :]
            if prefix["severity"] == b"F":
                text = message.decode(errors="replace").strip()
                self.marks.append(Mark(self.base + at, "fatal", pid, time, text))
                return
        for form in FORMATS:
            match = form.pattern.search(message)
            if match is not None:
                if not self._say(form.kind, at, pid, time, match, at + len(line)):
                    self.bad += 1
                return
        if _GARBLED.search(message):
            self.bad += 1

    def _say(self, kind: str, at: int, pid: int, time: int, match: re.Match[bytes], end: int) -> bool:
        number = int(np.searchsorted(self.starts, at, side="right")) - 1
        value_kinds = {"loss": LOSS, "lr": LR, "testing": TESTING, "score": TEST, "test_loss": TEST}
        if kind == "output":
            value_kinds["output"] = TRAIN if match[1] == b"Train" else TEST
        if kind not in value_kinds:
            return self._mark(kind, at, pid, time, match, end)
        if number >= self.open_end and not match[0].rstrip().endswith(b" loss)"):
            return False
        iteration, value, metric, net = -1, np.nan, Metric(""), -1
        if kind in ("loss", "lr", "testing"):
            iteration = int(match[1][:20])
            if kind == "testing":
                net = int(match[2][:6])
            else:
                value, metric = float(match[2]), Metric(kind)
        elif kind == "output":
            value, metric = float(match[4]), output_metric(match[3], match[2], match[5])
        elif kind == "score":
            value, metric = float(match[2]), Metric(f"score{int(match[1][:6])}", int(match[1][:6]))
        else:
            value, metric = float(match[1]), Metric("total_loss", -1, 1.0)
        code = -1 if kind == "testing" else self.metrics.code(metric)
        if iteration > _LIMIT or net > 1000 or code is None:
            return False
        self.columns.put(number, value_kinds[kind], time, pid, iteration, value, code, net)
        self.caffe = True
        return True

    def _mark(self, kind: str, at: int, pid: int, time: int, match: re.Match[bytes], end: int) -> bool:
        said = match[1] if match.re.groups else match[0]
        mark = Mark(self.base + at, kind, pid, time, said.decode(errors="replace"))
        if kind == "event":
            try:
                mark.content = json.loads(match[2])
            except (ValueError, RecursionError):
                return False
        elif kind in ("solver", "net"):
            found = _GLOG.search(self.data, end, self.size)
            stop = found.start() if found else self.size
            mark.text = self.data[end : min(stop, end + _LONGEST)].decode(errors="replace")
            if kind == "net":
                ready = _READY.search(self.data, stop, self.size)
                wired = self.data[stop : min(ready.start() if ready else self.size, stop + _LONGEST)]
                mark.content["wiring"] = wired
        self.marks.append(mark)
        return True

    def _rows(self) -> Rows:
        """Give outputs the iteration of the line above them, and every row its learning rate."""
        said = np.flatnonzero(self.columns.kind != 255)
        c = self.columns
        kind, iteration, time, net = c.kind[said], c.iteration[said], c.time[said], c.net[said]
        count = len(said)
        place = np.arange(count)
        heads = (kind == LOSS) | (kind == TESTING)
        head = np.maximum.accumulate(np.where(heads, place, -1)) if count else place
        output = (kind == TRAIN) | (kind == TEST)
        under = kind[head] == TESTING
        good = ~output | ((head >= 0) & (under == (kind == TEST)))
        # Numbers of outputs rise from line to line; where they do not, the line that says the iteration is missing.
        outs = np.flatnonzero(output)
        if len(outs):
            indexes = np.array([one.index for one in self.metrics.known])[c.metric[said[outs]]]
            falls = np.zeros(len(outs), bool)
            falls[1:] = (head[outs[1:]] == head[outs[:-1]]) & (indexes[1:] <= indexes[:-1]) & (indexes[1:] >= 0)
            fallen = np.cumsum(falls)
            first = np.searchsorted(head[outs], head[outs])
            good[outs] &= fallen - fallen[first] == 0
            iteration[outs] = iteration[head[outs]]
            time[outs] = time[head[outs]]
            net[outs] = np.where(kind[outs] == TEST, net[head[outs]], -1)
        self.bad += int((~good).sum())
        rates = np.flatnonzero(kind == LR)
        lr = self._rates(iteration, place, rates, c.value[said])
        keep = good & (kind != TESTING)
        if len(rates):
            # A learning rate is a row of its own only where no other line of its iteration is near.
            others = np.flatnonzero(keep & (kind != LR))
            keep[rates] = ~_beside(iteration, others, rates)
        chosen = said[keep]
        time = time[keep]
        later = np.flatnonzero(time == LATER)
        if len(later):
            view = np.frombuffer(self.data, "u1")
            at = self.starts[chosen[later]]
            old = view[at + 5] == 32
            time[later] = np.where(old, times(view, at, 21), times(view, at, 25))
        return Rows(
            iteration=iteration[keep],
            value=c.value[chosen],
            lr=lr[keep],
            metric=c.metric[chosen],
            net=net[keep],
            kind=kind[keep],
            at=self.starts[chosen] + self.base,
            time=time,
            pid=c.pid[chosen],
        )

    def _rates(
        self, iteration: npt.NDArray[Any], place: npt.NDArray[Any], rates: npt.NDArray[Any], value: npt.NDArray[Any]
    ) -> npt.NDArray[Any]:
        """The learning rate at each line: said next for its iteration, else before; NaN where that is elsewhere."""
        if not len(rates):
            return np.full(len(place), np.nan)
        after = np.searchsorted(rates, place)
        following = rates[np.minimum(after, len(rates) - 1)]
        before = rates[np.maximum(after - 1, 0)]
        same = (after < len(rates)) & (iteration[following] == iteration)
        lr: npt.NDArray[Any] = np.where(same, value[following], np.where(after > 0, value[before], np.nan))
        lr[after >= len(rates)] = np.nan  # the next block may say it
        lr[rates] = value[rates]
        last = place > rates[-1]
        known = last & (iteration == iteration[rates[-1]])
        lr[known] = value[rates[-1]]
        return lr


def _beside(iteration: npt.NDArray[Any], others: npt.NDArray[Any], rates: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not len(others):
        return np.zeros(len(rates), bool)
    near = np.searchsorted(others, rates)
    before, after = others[np.maximum(near - 1, 0)], others[np.minimum(near, len(others) - 1)]
    found: npt.NDArray[Any] = (iteration[before] == iteration[rates]) | (iteration[after] == iteration[rates])
    return found


class Scanner:
    """Reads a log that is fed to it bit by bit; what is whole is read once, also while the log still grows."""

    def __init__(self, metrics: Metrics, workers: int = 1) -> None:
        """``workers`` is the number of threads."""
        self._shapes = Shapes(metrics)
        self._done: list[_Block] = []
        self._rest: list[bytes] = []
        self._size = self._base = 0
        self._waiting: deque[Future[_Block]] = deque()
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the log."""
        self._rest.append(piece)
        self._size += len(piece)
        if self._size < _BLOCK:
            return
        data = b"".join(self._rest)
        # A block begins with a train line where that is possible, so that no output is parted from its iteration.
        cut = data.rfind(b"\n", 0, max(data.rfind(b", loss = "), 0)) + 1
        if cut < self._size // 2:
            cut = data.rfind(b"\n") + 1
        if not cut and self._size < 16 * _BLOCK:
            self._rest = [data]
            return
        cut = cut or self._size
        self._start(b"".join((memoryview(data)[:cut], PAD)))
        self._base += cut
        self._rest, self._size = [data[cut:]], self._size - cut

    def _start(self, data: bytes) -> None:
        base, first = self._base, not self._base
        if self._workers == 1 or first:
            # The first block is read here: it teaches the shapes that the others are of.
            self._done.append(_block(data, base, self._shapes, first, True))
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers)
        self._waiting.append(self._pool.submit(_block, data, base, self._shapes, first, True))
        if len(self._waiting) > 2 * self._workers:
            self._done.append(self._waiting.popleft().result())

    def result(self, last: bool = False) -> Scan:
        """What the log says so far; more may be fed afterwards, unless this is said to be the ``last`` time."""
        while self._waiting:
            self._done.append(self._waiting.popleft().result())
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        data = b"".join((*self._rest, PAD))
        blocks = [*self._done, _block(data, self._base, self._shapes, not self._base, False)]
        rows = (Rows.poured if last else Rows.joined)([one.rows for one in blocks])
        _carry(rows)
        return Scan(
            rows,
            [mark for one in blocks for mark in one.marks],
            sum(one.bad for one in blocks),
            any(one.caffe for one in blocks),
        )


def scan(pieces: Iterable[bytes], metrics: Metrics, workers: int | None = None) -> Scan:
    """Read a log from pieces of any size. Any bytes at all are taken; what is no line of Caffe is passed over."""
    scanner = Scanner(metrics, workers or os.cpu_count() or 1)
    for piece in pieces:
        scanner.feed(piece)
    return scanner.result(last=True)


def _block(data: bytes, base: int, shapes: Shapes, first: bool, ended: bool) -> _Block:
    block = _Block(data, base, shapes, first=first, ended=ended)
    # Its text and its columns are not needed any more.
    del block.data, block.columns, block.starts
    return block


def _carry(rows: Rows) -> None:
    """Settle the learning rates that a block left to its neighbours."""
    open_ones = np.flatnonzero(np.isnan(rows.lr))
    if not len(open_ones) or len(open_ones) == len(rows):
        return
    told = np.flatnonzero(~np.isnan(rows.lr))
    after = np.searchsorted(told, open_ones)
    following = told[np.minimum(after, len(told) - 1)]
    before = told[np.maximum(after - 1, 0)]
    same = (rows.iteration[following] == rows.iteration[open_ones]) | (after == 0)
    rows.lr[open_ones] = np.where(same, rows.lr[following], rows.lr[before])
