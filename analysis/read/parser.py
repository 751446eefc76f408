"""One log to its rows and events, in the order of the file: no judgement yet about what belongs where."""

from __future__ import annotations

import codecs
import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np

from caffebench.analysis.read.block import Block, parse_block
from caffebench.analysis.read.columns import LR, MetricRegistry, ParsedLog, ParsedRows
from caffebench.analysis.read.files import read_into
from caffebench.analysis.read.speakers import first_rank
from caffebench.analysis.read.templates import PAD, LineTemplates

__all__ = ["LogParser", "parse_bytes", "parse_file"]

_BLOCK = 1 << 21  # bytes that are parsed at once


class LogParser:
    """Parses a log that is fed to it bit by bit; what is whole is parsed once, also while the log still grows."""

    def __init__(self, metrics: MetricRegistry, workers: int = 1, size: int = _BLOCK) -> None:
        """``workers`` is the number of threads, ``size`` that of the log where it is known: of many a small one is."""
        self._templates = LineTemplates(metrics)
        self._done: list[Block] = []
        self._buffer = bytearray(min(_BLOCK, size + 64) + len(PAD))
        self._size = self._base = 0
        self._spare: list[bytearray] = []  # fresh memory costs as much as the parsing itself
        self._waiting: deque[tuple[Future[Block], bytearray]] = deque()
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = None
        self._encoding = ""  # not known before the first bytes
        self._decoder: codecs.IncrementalDecoder | None = None
        self._raw = bytearray()

    def writable_buffer(self) -> memoryview:
        """Where the next bytes of the log are to be put; there is always space for some."""
        if self._decoder is not None:
            return memoryview(self._raw)
        return memoryview(self._buffer)[self._size : -len(PAD)]

    def commit(self, count: int) -> None:
        """So many bytes have been put there."""
        if self._decoder is not None:
            self._append(self._decoder.decode(bytes(self._raw[:count])).encode("utf-8", "replace"))
            return
        self._size += count
        if not self._encoding and self._size >= 4:
            self._encoding = _encoding(self._buffer)
            if self._buffer.startswith(codecs.BOM_UTF8):
                self._buffer[:3] = b"\n\n\n"
            if self._encoding != "utf-8":
                text, self._size = bytes(self._buffer[: self._size]), 0
                self._decoder = codecs.getincrementaldecoder(self._encoding)("replace")
                self._raw = bytearray(_BLOCK)
                self._append(self._decoder.decode(text).encode("utf-8", "replace"))
                return
        self._parse_full()

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the log."""
        left = memoryview(piece)
        while left:
            buffer = self.writable_buffer()
            count = min(len(buffer), len(left))
            buffer[:count] = left[:count]
            left = left[count:]
            self.commit(count)

    def _append(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left:
            count = min(len(self._buffer) - len(PAD) - self._size, len(left))
            self._buffer[self._size : self._size + count] = left[:count]
            self._size += count
            left = left[count:]
            self._parse_full()

    def _parse_full(self) -> None:
        """Parse the buffer where it is full."""
        space = len(self._buffer) - len(PAD)
        if self._size < space:
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
            self._buffer = bytearray(2 * space + len(PAD))
        else:
            cut = cut or self._size
            self._buffer = self._spare.pop() if self._spare else bytearray(_BLOCK + len(PAD))
            rest = bytes(memoryview(data)[cut : self._size])
            self._start(data, cut)
            data = bytearray(rest)
            self._base += cut
            self._size, cut = len(rest), 0
        if self._size >= len(self._buffer) - len(PAD):
            self._buffer = bytearray(2 * self._size + len(PAD))
        self._buffer[: self._size] = memoryview(data)[: self._size]

    def _start(self, data: bytearray, size: int) -> None:
        ended = data[size - 1] == 10  # or a line is longer than any of Caffe
        if self._workers == 1 or not self._base:
            # The first block is parsed here: it teaches the templates that the others are of.
            self._done.append(parse_block(data, size, self._base, self._templates, ended=ended))
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers)
        future = self._pool.submit(parse_block, data, size, self._base, self._templates, ended=ended)
        self._waiting.append((future, data))
        if len(self._waiting) > 2 * self._workers:
            self._next()

    def _next(self) -> None:
        future, data = self._waiting.popleft()
        self._done.append(future.result())
        if len(data) == _BLOCK + len(PAD):
            self._spare.append(data)

    def result(self) -> ParsedLog:
        """What the log says so far; more may be fed afterwards."""
        while self._waiting:
            self._next()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self._buffer[self._size : self._size + len(PAD)] = PAD
        rest = parse_block(self._buffer, self._size, self._base, self._templates, ended=False)
        whole = self._join_done(rest.rows)
        blocks = [*self._done, rest]
        rows = _drop_orphan_rates(_with_rates(whole))
        bad = sum(one.bad_lines for one in blocks)
        log = ParsedLog(
            rows,
            tuple(event for one in blocks for event in one.events),
            bad,
            any(one.is_caffe for one in blocks),
        )
        return first_rank(log)

    def _join_done(self, rest: ParsedRows) -> ParsedRows:
        """All rows; the blocks that are done become one, column by column, so that no two copies of all are held."""
        count = sum(len(one.rows) for one in self._done)
        events = tuple(event for one in self._done for event in one.events)
        bad, is_caffe = sum(one.bad_lines for one in self._done), any(one.is_caffe for one in self._done)
        columns = {
            one.name: [getattr(block.rows, one.name) for block in self._done if len(block.rows)]
            for one in fields(ParsedRows)
        }
        self._done = []
        rows = ParsedRows(*(np.concatenate([*columns.pop(name), getattr(rest, name)]) for name in list(columns)))
        self._done = [Block(rows[:count], events, bad, is_caffe)] if self._base else []
        return rows


def parse_bytes(pieces: Iterable[bytes], metrics: MetricRegistry, workers: int | None = None) -> ParsedLog:
    """Parse a log from pieces of any size. Any bytes at all are taken; what is no line of Caffe is passed over."""
    parser = LogParser(metrics, workers or os.cpu_count() or 1)
    for piece in pieces:
        parser.feed(piece)
    return parser.result()


def parse_file(path: Path, metrics: MetricRegistry, workers: int | None = None) -> ParsedLog:
    """The same of a file, compressed or not. Raises ``OSError`` where it cannot be read."""
    parser = LogParser(metrics, workers or os.cpu_count() or 1, max(1 << 16, os.stat(path).st_size))
    read_into(path, parser)
    return parser.result()


def _encoding(head: bytearray) -> str:
    """Of a log that begins so: by its byte-order mark, or by the zeros of UTF-16."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head[1] == 0 == head[3] and head[0] and head[2]:
        return "utf-16-le"
    return "utf-16-be" if head[0] == 0 == head[2] and head[1] and head[3] else "utf-8"


def _with_rates(rows: ParsedRows) -> ParsedRows:
    """Fill in the learning rates that a block left to its neighbours."""
    unknown = np.isnan(rows.lr)
    open_ones = np.flatnonzero(unknown)
    if not len(open_ones) or len(open_ones) == len(rows):
        return rows
    known = np.flatnonzero(~unknown)
    after = np.searchsorted(known, open_ones)
    following = known[np.minimum(after, len(known) - 1)]
    before = known[np.maximum(after - 1, 0)]
    same = (rows.iteration[following] == rows.iteration[open_ones]) | (after == 0)
    rates = rows.lr.copy()
    rates[open_ones] = np.where(same, rows.lr[following], rows.lr[before])
    return ParsedRows(*(rates if one.name == "lr" else getattr(rows, one.name) for one in fields(rows)))


def _drop_orphan_rates(rows: ParsedRows) -> ParsedRows:
    """Without the learning rates whose train line is in the block before or after: they are no rows of their own."""
    lone = np.flatnonzero(rows.kind == LR)
    if not len(lone) or len(lone) == len(rows):
        return rows
    others = np.flatnonzero(rows.kind != LR)
    after = np.searchsorted(others, lone)
    near = (others[np.minimum(after, len(others) - 1)], others[np.maximum(after - 1, 0)])
    keep = np.ones(len(rows), bool)
    keep[lone] = np.all([rows.iteration[one] != rows.iteration[lone] for one in near], axis=0)
    return rows[keep]
