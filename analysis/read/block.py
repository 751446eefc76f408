"""A stretch of a log to its rows and marks: compiled code reads the usual lines, patterns read the others."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caffebench.analysis.read._rows import settle
from caffebench.analysis.read.columns import LOSS, LR, NO_TIME, TEST, TESTING, TRAIN, Metric, Rows
from caffebench.analysis.read.lines import FORMATS, HINT, PREFIX, microseconds
from caffebench.analysis.read.templates import NONE, PAD, Shapes, output_metric, read_shaped

__all__ = ["Mark", "read_block"]


@dataclass
class Mark:
    """A line that is no value but says something about the run."""

    at: int
    kind: str
    pid: int
    time: int
    text: str = ""
    content: dict[str, Any] = field(default_factory=dict)


_NOISE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\r(?=\n)")
_GLOG = re.compile(rb"^[IWEF](?:\d{4}|\d{8}) \d\d:\d\d:\d\d\.\d{6} ", re.MULTILINE)
# Where a configuration ends, and where what follows it does; the next attempt of a start that failed ends both.
_TOLD = re.compile(
    rb"^(?:\[\d+\] )?[IWEF](?:\d{4}|\d{8}) \d\d:\d\d:\d\d\.\d{6} |Initializing (?:solver|net) from", re.MULTILINE
)
_READY = re.compile(rb"Network initialization done|Initializing (?:solver|net) from")
_GARBLED = re.compile(rb"Iteration \d+.{0,99}, (?:loss|lr)|Testing net|net output #")
_LIMIT = 2**53  # an iteration beyond is noise, and would not be exact in a float either
_LONGEST = 4 << 20  # bytes of a configuration that are kept


class _Block:
    """One stretch of whole lines."""

    def __init__(self, data: bytearray, size: int, base: int, shapes: Shapes, *, ended: bool) -> None:
        """See ``read_block``."""
        self.base = base
        self.metrics = shapes.metrics
        self.marks: list[Mark] = []
        self.bad = 0
        self.caffe = False
        if data.find(b"\x1b", 0, size) >= 0 or data.find(b"\r", 0, size) >= 0:
            data = bytearray(_NOISE.sub(b"", bytes(data[:size])).replace(b"\r", b"\n") + PAD)
            size = len(data) - len(PAD)
        self.size = size
        self.data = data
        # The last line of a file that ends without a line's end may be cut in the middle of a number.
        stop = self.size if ended else data.rfind(b"\n", 0, self.size) + 1
        self.columns = read_shaped(data, self.size, stop, shapes)
        self.starts = self.columns.start
        self.open_end = len(self.starts) - (stop < self.size)
        self.caffe = bool((self.columns.kind != NONE).any())
        self._others()
        self.rows = self._rows()

    def _others(self) -> None:
        """Read the lines that are of no known shape, by the patterns."""
        odd = np.flatnonzero(self.columns.kind == NONE)
        if not len(odd):
            return
        breaks = np.flatnonzero(np.diff(odd) > 1)
        lows = np.concatenate([[0], breaks + 1])
        highs = np.concatenate([breaks, [len(odd) - 1]])
        for low, high in zip(odd[lows].tolist(), odd[highs].tolist(), strict=True):
            begin = int(self.starts[low])
            end = int(self.starts[high + 1]) if high + 1 < len(self.starts) else self.size
            self._stretch(begin, end, head=not self.base and begin == 0)

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
            self._line(low, bytes(self.data[low:begin]).rstrip(b"\n"))

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
            for word in form.words:
                if word in message:
                    break
            else:
                continue
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
            found = _TOLD.search(self.data, end, self.size)
            stop = found.start() if found else self.size
            mark.text = self.data[end : min(stop, end + _LONGEST)].decode(errors="replace")
            if kind == "net":
                ready = _READY.search(self.data, stop, min(self.size, stop + _LONGEST))
                wired = self.data[stop : min(ready.start() if ready else self.size, stop + _LONGEST)]
                mark.content["wiring"] = bytes(wired)
        self.marks.append(mark)
        return True

    def _rows(self) -> Rows:
        c = self.columns
        indexes = np.array([one.index for one in self.metrics.known], "i4")
        rates = np.empty(len(c.kind))
        count, bad = settle(self.base, indexes, *c.all(), rates)
        self.bad += bad
        columns = (c.iteration, c.value, rates, c.metric, c.net, c.kind, c.start, c.time, c.pid)
        return Rows(*(one[:count].copy() for one in (*columns, np.full(count, -1, "i4"))))


def read_block(
    data: bytearray, size: int, base: int, shapes: Shapes, *, ended: bool
) -> tuple[Rows, list[Mark], int, bool]:
    """Rows and marks of the first ``size`` bytes of ``data``, behind which ``PAD`` or more text must follow.

    ``base`` is their offset in the log; ``ended`` says that more of the log follows, so the last line is whole. With
    them come the number of bad lines (cut, garbled, or without the line that says their iteration), and whether there
    is anything of Caffe at all.
    """
    block = _Block(data, size, base, shapes, ended=ended)
    return block.rows, block.marks, block.bad, block.caffe
