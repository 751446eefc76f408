"""One log to its rows and events, in the order of the file: no judgement yet about what belongs where."""

from __future__ import annotations

import codecs
import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from caffebench.analysis.read.block import Block, parse_block
from caffebench.analysis.read.columns import LogEvent, MetricRegistry, ParsedLog
from caffebench.analysis.read.files import read_into
from caffebench.analysis.read.growing import GrowingRows
from caffebench.analysis.read.speakers import first_rank
from caffebench.analysis.read.templates import PAD, LineTemplates

__all__ = ["LogParser", "parse_bytes", "parse_file"]

_BLOCK = 1 << 21  # bytes that are parsed at once


class LogParser:
    """Parses a log that is fed to it bit by bit; what is whole is parsed once, also while the log still grows."""

    def __init__(self, metrics: MetricRegistry, workers: int = 1, size: int = _BLOCK) -> None:
        """``workers`` is the number of threads, ``size`` that of the log where it is known: of many a small one is."""
        self._templates = LineTemplates(metrics)
        self._rows = GrowingRows(metrics, size)
        self._events: list[LogEvent] = []
        self._bad = 0
        self._is_caffe = False
        self._buffer = bytearray(min(_BLOCK, max(size, 1 << 16) + 64) + len(PAD))
        self._size = self._base = 0
        self._spare: list[bytearray] = []  # fresh memory costs as much as the parsing itself
        self._waiting: deque[tuple[int, Future[Block], bytearray]] = deque()
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
            self._take(self._base, parse_block(data, size, self._base, self._templates, ended=ended))
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers)
        future = self._pool.submit(parse_block, data, size, self._base, self._templates, ended=ended)
        self._waiting.append((self._base, future, data))
        if len(self._waiting) > 2 * self._workers:
            self._next()

    def _next(self) -> None:
        base, future, data = self._waiting.popleft()
        self._take(base, future.result())
        if len(data) == _BLOCK + len(PAD):
            self._spare.append(data)

    def _take(self, base: int, block: Block) -> None:
        self._bad += block.bad_lines + self._rows.add(base, block.lines)
        self._events += block.events
        self._is_caffe |= block.is_caffe

    def result(self) -> ParsedLog:
        """What the log says so far; more may be fed afterwards."""
        while self._waiting:
            self._next()
        before = self._rows, self._bad, self._is_caffe, len(self._events)
        self._rows = self._rows.copy()
        log = self.finish()
        self._rows, self._bad, self._is_caffe, events = before
        del self._events[events:]
        return log

    def finish(self) -> ParsedLog:
        """What the log says; nothing may be fed then."""
        while self._waiting:
            self._next()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self._buffer[self._size : self._size + len(PAD)] = PAD
        self._take(self._base, parse_block(self._buffer, self._size, self._base, self._templates, ended=False))
        return first_rank(ParsedLog(self._rows.finish(), tuple(self._events), self._bad, self._is_caffe))


def parse_bytes(pieces: Iterable[bytes], metrics: MetricRegistry, workers: int | None = None) -> ParsedLog:
    """Parse a log from ``pieces`` of any size, in order.

    ``metrics`` gives the ids of metrics, and is the same for all files of a run; ``workers`` is the number of threads,
    all processors without it. Any bytes at all are taken; what is no line of Caffe is passed over.
    """
    parser = LogParser(metrics, workers or os.cpu_count() or 1)
    for piece in pieces:
        parser.feed(piece)
    return parser.finish()


def parse_file(path: Path, metrics: MetricRegistry, workers: int | None = None) -> ParsedLog:
    """Parse the log at ``path``, compressed or not; ``metrics`` and ``workers`` are those of ``parse_bytes``.

    Raises ``OSError`` where it cannot be read.
    """
    parser = LogParser(metrics, workers or os.cpu_count() or 1, os.stat(path).st_size)
    read_into(path, parser)
    return parser.finish()


def _encoding(head: bytearray) -> str:
    """Of a log that begins so: by its byte-order mark, or by the zeros of UTF-16."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head[1] == 0 == head[3] and head[0] and head[2]:
        return "utf-16-le"
    return "utf-16-be" if head[0] == 0 == head[2] and head[1] and head[3] else "utf-8"
