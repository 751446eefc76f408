"""One log to its rows and marks, in the order of the file: no judgement yet about what belongs where."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from caffebench.analysis.read._rows import regular
from caffebench.analysis.read.block import Mark, read_block
from caffebench.analysis.read.columns import LOSS, LR, Metrics, Rows
from caffebench.analysis.read.files import pour
from caffebench.analysis.read.lines import UNKNOWN_YEAR, since_1970
from caffebench.analysis.read.store import Store
from caffebench.analysis.read.templates import PAD, Shapes

__all__ = ["Hidden", "Scan", "Scanner", "scan", "scan_file"]


@dataclass(frozen=True)
class Hidden:
    """A stretch of rows of one process that holds no surprise: iterations and times rise, nothing ends or begins.

    Between the rows around it, it can be followed without being looked at; so it is put away until it is written.
    """

    number: int
    """In the store."""
    count: int
    first: int
    last: int
    """Its first and last iteration."""
    time: int
    """Of the row before it, as the log says it: what is later found to be wrong with times is so for all of it."""
    pairs: tuple[tuple[int, int, int], ...]
    """Kind, metric and net of its values, in the order of their first lines."""


@dataclass
class Scan:
    """What is in one log."""

    ends: Rows
    """Its rows but for the hidden ones; ``Rows.gap`` says after which row those come."""
    marks: list[Mark]
    hidden: list[Hidden]
    store: Store
    bad: int = 0
    """Lines that begin like one of Caffe's but are cut, garbled, or have lost the line that says their iteration."""
    caffe: bool = False
    """There are lines with glog's prefix, or values: where there are none, this is no log of Caffe."""


_BLOCK = 1 << 21  # bytes that are read at once
_WORTH = 256  # rows from which on it is worth while to hide some
_LATE = since_1970(datetime(UNKNOWN_YEAR, 2, 29))  # the untold year may have had this day, or not
_MARCH = since_1970(datetime(UNKNOWN_YEAR, 3, 1))


@dataclass
class _Read:
    rows: Rows
    marks: list[Mark]
    bad: int
    caffe: bool
    middle: Rows | None = None


class Scanner:
    """Reads a log that is fed to it bit by bit; what is whole is read once, also while the log still grows."""

    def __init__(self, metrics: Metrics, workers: int = 1) -> None:
        """``workers`` is the number of threads."""
        self._shapes = Shapes(metrics)
        self._store = Store()
        self._hidden: list[Hidden] = []
        self._done: list[_Read] = []
        self._buffer = bytearray(_BLOCK + len(PAD))
        self._size = self._base = 0
        self._spare: list[bytearray] = []  # fresh memory costs as much as the reading itself
        self._waiting: deque[tuple[Future[_Read], bytearray]] = deque()
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = None

    def room(self) -> memoryview:
        """Where the next bytes of the log are to be put; there is always room for some."""
        return memoryview(self._buffer)[self._size : -len(PAD)]

    def filled(self, count: int) -> None:
        """So many bytes have been put there."""
        self._size += count
        room = len(self._buffer) - len(PAD)
        if self._size < room:
            return
        data = self._buffer
        # A block begins with a train line where that is possible, so that no output is parted from its iteration;
        # else, where much else is said between two of them (debug_info), with a test.
        cut = data.rfind(b"\n", 0, max(data.rfind(b", loss = ", 0, self._size), 0)) + 1
        if cut < self._size // 2:
            cut = data.rfind(b"\n", 0, max(data.rfind(b", Testing net (#", 0, self._size), 0)) + 1
        if cut < self._size // 2:
            cut = data.rfind(b"\n", 0, self._size) + 1
        if not cut and self._size < 16 * _BLOCK:
            self._buffer = bytearray(2 * room + len(PAD))
        else:
            cut = cut or self._size
            self._buffer = self._spare.pop() if self._spare else bytearray(_BLOCK + len(PAD))
            self._start(data, cut)
        rest = self._size - cut
        if rest >= len(self._buffer) - len(PAD):
            self._buffer = bytearray(2 * rest + len(PAD))
        self._buffer[:rest] = memoryview(data)[cut : self._size]
        self._base += cut
        self._size = rest

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the log."""
        left = memoryview(piece)
        while left:
            room = self.room()
            count = min(len(room), len(left))
            room[:count] = left[:count]
            left = left[count:]
            self.filled(count)

    def _start(self, data: bytearray, size: int) -> None:
        ended = data[size - 1] == 10  # or a line is longer than any of Caffe
        if self._workers == 1 or not self._base:
            # The first block is read here: it teaches the shapes that the others are of.
            self._take(_read(data, size, self._base, self._shapes, ended=ended))
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers)
        future = self._pool.submit(_read, data, size, self._base, self._shapes, ended=ended)
        self._waiting.append((future, data))
        if len(self._waiting) > 2 * self._workers:
            self._next()

    def _next(self) -> None:
        future, data = self._waiting.popleft()
        self._take(future.result())
        if len(data) == _BLOCK + len(PAD):
            self._spare.append(data)

    def _take(self, read: _Read) -> None:
        middle = read.middle
        if middle is not None:
            place = int(np.flatnonzero(read.rows.gap == 0)[0])
            read.rows.gap[place] = len(self._hidden)
            number = self._store.put(middle.stored())
            pairs, time = tuple(middle.pairs()), int(read.rows.time[place])
            first, last = int(middle.iteration[0]), int(middle.iteration[-1])
            self._hidden.append(Hidden(number, len(middle), first, last, time, pairs))
            read.middle = None
        self._done.append(read)

    def result(self) -> Scan:
        """What the log says so far; more may be fed afterwards."""
        while self._waiting:
            self._next()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self._buffer[self._size : self._size + len(PAD)] = PAD
        rest = _read(self._buffer, self._size, self._base, self._shapes, ended=False)
        parts = [*self._done, rest]
        rows = Rows.joined([one.rows for one in parts])
        _carry(rows)
        return Scan(
            _unsaid(rows),
            [mark for one in parts for mark in one.marks],
            list(self._hidden),
            self._store,
            sum(one.bad for one in parts),
            any(one.caffe for one in parts),
        )


def scan(pieces: Iterable[bytes], metrics: Metrics, workers: int | None = None) -> Scan:
    """Read a log from pieces of any size. Any bytes at all are taken; what is no line of Caffe is passed over."""
    scanner = Scanner(metrics, workers or os.cpu_count() or 1)
    for piece in pieces:
        scanner.feed(piece)
    return scanner.result()


def scan_file(path: Path, metrics: Metrics, workers: int | None = None) -> Scan:
    """The same of a file, compressed or not. Raises ``OSError`` where it cannot be read."""
    scanner = Scanner(metrics, workers or os.cpu_count() or 1)
    pour(path, scanner.room, scanner.filled)
    return scanner.result()


def _read(data: bytearray, size: int, base: int, shapes: Shapes, *, ended: bool) -> _Read:
    read = _Read(*read_block(data, size, base, shapes, ended=ended))
    rows = read.rows
    if ended and len(rows) >= _WORTH and _plain(rows) and all(_fits(one, rows) for one in read.marks):
        # Three train lines stay at either end: more is never looked at to tell what belongs together.
        losses = rows.iteration[rows.kind == LOSS]
        first = int(np.searchsorted(rows.iteration, losses[2], "right"))
        last = int(np.searchsorted(rows.iteration, losses[-3], "left"))
        # Learning rates that the next block says may lack at the end, but what is hidden knows all, or none.
        dark = np.isnan(rows.lr)
        if last - first > _WORTH // 2 and (dark.all() or not dark[: last + 1].any()):
            read.middle = rows[first:last]
            read.rows = Rows.joined([rows[:first], rows[last:]])
            read.rows.gap[first - 1] = 0
    return read


def _plain(rows: Rows) -> bool:
    """Nothing in these rows can change what is made of others."""
    if not regular(rows.iteration, rows.time, rows.pid, rows.kind, rows.metric, rows.net):
        return False
    return not rows.time[0] < _LATE <= rows.time[-1] and int((rows.kind == LOSS).sum()) > 6


def _fits(mark: Mark, rows: Rows) -> bool:
    """It is a snapshot, at a time between those of the rows around it: nothing to be put right by them."""
    place = int(np.searchsorted(rows.at, mark.at))
    around = rows.time[max(place - 1, 0) : place + 1].tolist()
    return mark.kind == "snapshot" and (place == 0 or around[0] <= mark.time) and mark.time <= around[-1]


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


def _unsaid(rows: Rows) -> Rows:
    """Without the learning rates whose train line is in the block before or after: they are no rows of their own."""
    lone, others = np.flatnonzero(rows.kind == LR), np.flatnonzero(rows.kind != LR)
    if not len(lone) or not len(others):
        return rows
    after = np.searchsorted(others, lone)
    near = (others[np.minimum(after, len(others) - 1)], others[np.maximum(after - 1, 0)])
    keep = np.ones(len(rows), bool)
    keep[lone] = np.all([rows.iteration[one] != rows.iteration[lone] for one in near], axis=0)
    return rows[keep]
