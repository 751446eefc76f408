"""One log to its rows and events, in the order of the file: no judgement yet about what belongs where."""

from __future__ import annotations

import codecs
import os
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffebench.analysis.read.block import Block, parse_block
from caffebench.analysis.read.columns import LogEvent, MetricRegistry, ParsedLog, ParsedRows
from caffebench.analysis.read.files import COMPRESSED, pieces
from caffebench.analysis.read.growing import GrowingRows
from caffebench.analysis.read.templates import PAD, LineTemplates

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["LogParser", "parse_bytes", "parse_file"]

_BLOCK = 1 << 21  # bytes that are parsed at once
_SPARE = 16  # blocks that are kept for others
_ENOUGH = 4  # train lines that tell whether iterations fall


class LogParser:
    """Parses a log that is fed to it bit by bit; what is whole is parsed once, also while the log still grows."""

    def __init__(self, metrics: MetricRegistry, workers: int = 1, size: int = _BLOCK) -> None:
        """``workers`` is the number of threads, ``size`` that of the log if known: of many a small one is."""
        self._templates = LineTemplates(metrics)
        self._rows = GrowingRows(metrics, size)
        self._events: list[LogEvent] = []
        self._bad = 0
        self._is_caffe = False
        self._decode: Callable[[bytes | memoryview], bytes | memoryview] | None = (
            None  # not known before the first bytes
        )
        self._head = b""  # what came before that
        self._buffer = _space() if size > _BLOCK // 2 else bytearray(max(size, 1 << 14) + 64) + PAD
        self._size = self._base = 0
        self._waiting: deque[tuple[int, Future[Block], bytearray]] = deque()
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = None

    def feed(self, piece: bytes | memoryview) -> None:
        """Take the next bytes of the log."""
        if self._decode is None:
            piece = self._head = self._head + bytes(piece)
            if len(piece) < 4:
                return
            self._decode = _decoder(piece)
            if piece.startswith(codecs.BOM_UTF8):
                piece = b"\n\n\n" + piece[3:]
        left = memoryview(self._decode(piece))
        while left:  # blocks are the same whatever the pieces are
            count = min(len(self._buffer) - len(PAD) - self._size, len(left))
            memoryview(self._buffer)[self._size : self._size + count] = left[:count]
            self._size += count
            left = left[count:]
            if self._size == len(self._buffer) - len(PAD):
                self._parse_full()

    def _parse_full(self) -> None:
        """Parse the buffer, which is full, up to a line from which on the rest can be parsed apart."""
        data, size = self._buffer, self._size
        # A block begins with a train line where that is possible, so that no output is parted from its iteration;
        # else, where much else is said between two of them (debug_info), with a test.
        cut = data.rfind(b"\n", 0, max(data.rfind(b", loss = ", 0, size), 0)) + 1
        if cut < size // 2:
            cut = data.rfind(b"\n", 0, max(data.rfind(b", Testing net (#", 0, size), 0)) + 1
        if cut < size // 2:
            cut = data.rfind(b"\n", 0, size) + 1
            begun = data.rfind(b" from parameters:", 0, cut)
            if begun >= 0 and data.find(b"nitialization done", begun, cut) < 0:  # a net, not all of which is there
                cut = data.rfind(b"\n", 0, begun) + 1
        if not cut and size < 16 * _BLOCK:
            self._buffer = data[:size] + bytes(size) + PAD
            return
        cut = cut or size
        rest = data[cut:size]
        self._buffer = _space() if len(rest) < _BLOCK else bytearray(2 * len(rest)) + PAD
        self._buffer[: len(rest)] = rest
        self._size = len(rest)
        ended = data[cut - 1] == 10  # or a line is longer than any of Caffe
        if self._workers == 1 or not self._base:
            # The first block is parsed here: it teaches the templates that the others are of.
            self._take(self._base, parse_block(data, cut, self._base, self._templates, ended=ended), data)
        else:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor  # 6 ms, which most logs are too small to need

                self._pool = ThreadPoolExecutor(self._workers)
            future = self._pool.submit(parse_block, data, cut, self._base, self._templates, ended=ended)
            self._waiting.append((self._base, future, data))
            if len(self._waiting) > 2 * self._workers:
                self._take_next()
        self._base += cut

    def _take_next(self) -> None:
        base, future, data = self._waiting.popleft()
        self._take(base, future.result(), data)

    def _take(self, base: int, block: Block, data: bytearray) -> None:
        self._bad += block.bad_lines + self._rows.add(base, block.lines)
        self._events += block.events
        self._is_caffe |= block.is_caffe
        _give_back(data)

    def result(self) -> ParsedLog:
        """What the log says so far; more may be fed afterwards."""
        return self._with_rest(GrowingRows.copy)

    def finish(self) -> ParsedLog:
        """What the log says; nothing may be fed then."""
        log = self._with_rest(lambda rows: rows)
        _give_back(self._buffer)
        if self._pool is not None:
            self._pool.shutdown()
        return log

    def _with_rest(self, taken: Callable[[GrowingRows], GrowingRows]) -> ParsedLog:
        while self._waiting:
            self._take_next()
        rows = taken(self._rows)
        self._buffer[self._size : self._size + len(PAD)] = PAD
        rest = parse_block(self._buffer, self._size, self._base, self._templates, ended=False)
        bad = self._bad + rest.bad_lines + rows.add(self._base, rest.lines)
        return ParsedLog(rows.rows(), (*self._events, *rest.events), bad, self._is_caffe or rest.is_caffe)


_spare: list[bytearray] = []  # of all logs: fresh memory costs as much as the parsing itself


def _space() -> bytearray:
    try:
        return _spare.pop()
    except IndexError:
        return bytearray(_BLOCK) + PAD


def _give_back(buffer: bytearray) -> None:
    if len(buffer) == _BLOCK + len(PAD) and len(_spare) < _SPARE:
        _spare.append(buffer)


def parse_bytes(
    given: Iterable[bytes | memoryview], metrics: MetricRegistry, workers: int | None = None, size: int = _BLOCK
) -> ParsedLog:
    """Parse a log from the pieces that are ``given``, of any size, in order.

    ``metrics`` gives the ids of metrics, and is the same for all files of a run; ``workers`` is the number of threads,
    all processors without it; ``size`` are the bytes of a file that is being read, if known. Any bytes at all are
    taken; what is no line of Caffe is passed over.
    """
    parser = LogParser(metrics, workers or os.cpu_count() or 1, size)
    for piece in given:
        parser.feed(piece)
    return parser.finish()


def parse_file(path: Path, metrics: MetricRegistry, workers: int | None = None) -> ParsedLog:
    """Parse the log at ``path``, compressed or not; ``metrics`` and ``workers`` are those of ``parse_bytes``.

    Raises ``OSError`` where it cannot be read.
    """
    size = _BLOCK if path.suffix in COMPRESSED else os.stat(path).st_size
    log = parse_bytes(pieces(path), metrics, workers, size)
    if not _is_backwards(log.rows):
        return log
    lines = b"".join(map(bytes, pieces(path))).split(b"\n")
    log = parse_bytes([b"\n".join(lines[::-1])], metrics, workers, size)
    return log._replace(notes=("its newest line stands first: it is read from its end",))


def _is_backwards(rows: ParsedRows) -> bool:
    """Whether the newest line stands first, as log servers export it."""
    if rows.facts.losses < _ENOUGH or rows.iteration[0] <= rows.iteration[-1]:
        return False
    steps = np.diff(rows.losses.iteration), np.diff(rows.losses.time)
    return bool((steps[0] < 0).mean() > 0.9 and not (steps[1] > 0).any())


def _decoder(head: bytes) -> Callable[[bytes | memoryview], bytes | memoryview]:
    """What makes UTF-8 of a log that begins so: by its byte-order mark, or by the zeros of UTF-16."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif head[1] == 0 == head[3] and head[0] and head[2]:
        encoding = "utf-16-le"
    elif head[0] == 0 == head[2] and head[1] and head[3]:
        encoding = "utf-16-be"
    else:
        return lambda piece: piece
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    return lambda piece: decoder.decode(bytes(piece)).encode("utf-8", "replace")
