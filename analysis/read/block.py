"""One stretch of whole lines to what each says, and to events."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from caffebench.analysis.read.columns import LOSS, NO_TIME, TESTING, LogEvent
from caffebench.analysis.read.lines import LABEL, PREFIX, VALUE, LineFormat, find_format, microseconds, to_number
from caffebench.analysis.read.templates import ODD, PAD, LineColumns, LineTemplates, meaning, read_lines
from caffebench.analysis.read.wrapping import SAMPLE, find_wrapping, without_controls
from caffebench.common.glog import STAMP

__all__ = ["Block", "parse_block"]


class Block(NamedTuple):
    """What some lines say."""

    lines: LineColumns
    events: tuple[LogEvent, ...]
    bad_lines: int
    is_caffe: bool


# The line behind a configuration; the next attempt of a start that failed ends it, and what follows it, too.
_CONFIG_END = re.compile(
    rb"[^\n]{0,60}?(?<![A-Za-z0-9])" + STAMP + rb"|"
    rb"\d{9,11} +(?:INFO|WARNING|ERROR|FATAL): |[^\n]*?(?P<again>Initializing (?:solver|net) from)"
)
_LIKELY_END = re.compile(rb":(?:\d\d[:.]| \S+ : line |(?<=from parameters:))")
_NET_INIT_END = re.compile(rb"nitializ(?:ation done|ing (?:solver|net) from)")
_GARBLED = re.compile(rb"Iteration \d+.{0,99}, (?:loss|lr)|Testing net|net output #")
_CONTINUED = re.compile(rb"(?:(?:\d[\d.]*|\.\d*|#[A-Z]+\d*)(?:[eE][-+]?\d+)?|[eE][-+]?\d+)(?=\s*(?:$|[,(]))")
_NUMBER = re.compile(VALUE)
_FURTHER_ON = re.compile(rb"\s{8,}(?:[\d.]|e[-+])")  # the rest of a number, behind what fills a row of a console
_TIME_IN_LABEL = re.compile(rb"\d\d:\d\d")
_PACE = re.compile(rb"\(-?[\d.e+-]+ iter/s, ([\d.]+)s/(\d+) iters?\)")
_LIMIT = 2**31  # Caffe counts iterations in an int
_LONGEST = 4 << 20  # bytes of a configuration that are kept
_VALUES = {"loss", "lr", "testing", "output", "score", "test_loss", "class_ap", "average", "fcn"}


class _BlockParser:
    def __init__(self, data: bytearray, size: int, base: int, templates: LineTemplates, *, ended: bool) -> None:
        self.base = base
        self.templates = templates
        self.metrics = templates.metrics
        self.events: list[LogEvent] = []
        self.bad = 0
        self.averages = 0
        data, size = self._as_written(data, size)
        self.size = size
        self.data = data
        # The last line of a file that ends without a line's end may be cut in the middle of a number.
        stop = size if ended else data.rfind(b"\n", 0, size) + 1
        self.lines, self.is_caffe = read_lines(data, size, stop, templates)
        odd = self._odd_lines()
        if any(
            line.find(b"] Running for ") >= 0 for _, _, line in odd
        ):  # a test of finished weights: any line may be a value
            self.lines, self.is_caffe = read_lines(data, size, stop, templates, every_line=True)
            odd = self._odd_lines()
        self.open_end = len(self.lines) - (stop < size)
        self._head()
        for number, begin, line in odd:
            self._line(number, begin, line)
        self._clock_falls()

    def _as_written(self, data: bytearray, size: int) -> tuple[bytearray, int]:
        """The block as Caffe wrote it, and its size: what the log begins with tells how its lines are wrapped."""
        plain = data.find(b"\x1b", 0, size) < 0 and data.find(b"\r", 0, size) < 0
        if not self.base:
            head = bytes(data[: min(size, SAMPLE)])
            self.templates.wrapping = find_wrapping(head if plain else without_controls(head))
        if plain and not self.templates.wrapping:
            return data, size
        text = bytes(data[:size]) if plain else without_controls(bytes(data[:size]))
        for step in self.templates.wrapping:
            text = step(text)
        return bytearray(text + PAD), len(text)

    def _odd_lines(self) -> list[tuple[int, int, bytes]]:
        """Number, offset and text of the lines that are left to the patterns."""
        numbers = (self.lines.kind == ODD).nonzero()[0]
        begins = self.lines.start[numbers].tolist()
        ends = [self.data.find(b"\n", begin, self.size) for begin in begins]
        return [
            (number, begin, bytes(self.data[begin : end if end >= 0 else self.size]))
            for number, begin, end in zip(numbers.tolist(), begins, ends, strict=True)
        ]

    def _head(self) -> None:
        """What stands before the first line of Caffe may be a configuration that lost its line."""
        if self.base:
            return
        first = self.data[: int(self.lines.start[1])] if len(self.lines) > 1 else self.data[: self.size]
        if PREFIX.search(first) is not None:
            return
        found = PREFIX.search(self.data, 0, min(self.size, _LONGEST))
        begin = self.data.rfind(b"\n", 0, found.start()) + 1 if found else min(self.size, _LONGEST)
        label, text = bytes(self.data[begin : found.start()]) if found else b"", bytes(self.data[:begin])
        if label:
            text = re.sub(rb"(?m)^" + re.escape(label), b"", text)
        if b": " in text:
            self.events.append(LogEvent(0, "head", 0, NO_TIME, text.decode(errors="replace")))

    def _line(self, number: int, at: int, line: bytes) -> None:
        prefix = PREFIX.match(line)
        if prefix is None or line.find(b"]", prefix.end()) >= 0 or line.find(b" : line ", prefix.end()) >= 0:
            for prefix in PREFIX.finditer(line):  # noqa: B007 - the last: a cut line may run into a whole one
                pass
        rank, pid, time, message, label = -1, 0, NO_TIME, line, b""
        if prefix is not None:
            self.is_caffe = True
            told = microseconds(prefix)
            pid = int((prefix["pid"] or b"0")[-10:]) & 0x7FFFFFFF
            time = NO_TIME if told is None else told
            message, label = line[prefix.end() :], line[: prefix.start()]
            if label or b"rank" in message[:9].lower():
                rank = self._rank(label, message)
            if prefix["severity"] == b"F" or prefix["level"] == b"FATAL":
                text = message.decode(errors="replace").strip()
                self.events.append(LogEvent(self.base + at, "fatal", pid, time, text, rank=rank))
                return
        found = find_format(message, prefix is not None)
        if found is None:
            self.bad += _GARBLED.search(message) is not None
        elif found[0].kind in _VALUES:
            self.bad += not self._value(*found, number, at + len(line), (rank, pid, time))
        else:
            self.bad += not self._event(found[0].kind, at, found[1], at + len(line), label, (rank, pid, time))

    def _rank(self, label: bytes, message: bytes) -> int:
        """The number of the speaker that stands before a line, or between prefix and message; -1 without."""
        label = label.strip()
        if not label or len(label) > 40 or _TIME_IN_LABEL.search(label):
            inner = LABEL.match(message.lstrip()) if b"rank" in message[:9].lower() else None
            return int(inner[4]) if inner is not None and inner[4] else -1
        found = LABEL.fullmatch(label)
        if found is not None:
            return int(next(group for group in found.groups() if group is not None))
        if not re.search(rb"[A-Za-z0-9]", label) or not label.isascii() or not label.decode().isprintable():
            return -1
        return self.templates.labels.setdefault(label, 10_000 + len(self.templates.labels))

    def _value(
        self, form: LineFormat, match: re.Match[bytes], number: int, end: int, who: tuple[int, int, int]
    ) -> bool:
        rank, pid, time = who
        kind, found = form.kind, match.groupdict()
        whole = match[0].rstrip().endswith(b" loss)")
        if number >= self.open_end and not whole:
            return False
        if _FURTHER_ON.match(found.get("rest") or b""):
            return False
        if found.get("value") is not None and not whole:
            if (found.get("rest") or b"").startswith(b" (*"):
                return False
            at_end = not match.string[match.end("value") :].strip()
            if at_end and self._continues(found["value"], end):
                return False
        iteration = int(found["iteration"][:20]) if found.get("iteration") else -1
        value, net = np.nan, 0 if kind in ("class_ap", "fcn", "average") else -1
        if kind == "testing":
            net = int((found.get("net") or b"0")[:6])
        else:
            value = to_number(found["value"])
        code, metric = meaning(form, match)
        if metric is not None and kind == "average":  # those of a vector have one name
            metric = replace(metric, index=self.averages)
            self.averages += 1
        metric_id = -1 if metric is None else self.metrics.id_for(metric)
        if iteration > _LIMIT or net > 1000 or metric_id is None:
            return False
        self.lines.put(number, code, time, iteration, value, pid if rank < 0 else -1 - rank, metric_id, net)
        self.is_caffe = True
        return True

    def _continues(self, begun: bytes, end: int) -> bool:
        """Whether the line that follows ``end`` begins with the rest of the number that is ``begun`` there."""
        following = bytes(self.data[end + 1 : end + 200]).split(b"\n", 1)[0]
        rest = _CONTINUED.match(following)
        if rest is None or PREFIX.search(following) is not None:
            return False
        return _NUMBER.fullmatch(begun + rest[0]) is not None

    def _event(
        self, kind: str, at: int, match: re.Match[bytes], end: int, label: bytes, who: tuple[int, int, int]
    ) -> bool:
        rank, pid, time = who
        text = (match[1] if match.re.groups else match[0]).decode(errors="replace")
        content: Any = {}
        if kind == "event":
            try:
                content = _printable(json.loads(match[2]))
            except (ValueError, RecursionError):
                return False
        elif kind == "ap":
            content = {"value": to_number(match[2])}
        elif kind == "caffe_test":
            self.averages = 0
            number = int(np.searchsorted(self.lines.start, at, side="right")) - 1
            self.lines.put(number, TESTING, time, 0, np.nan, pid, -1, 0)
        elif kind in ("solver", "net"):
            if label.strip():
                text, stop = self._labelled(end, label, rank)
            else:
                stop = self._config_end(end)
                text = self.data[end : min(stop, end + _LONGEST)].decode(errors="replace")
            if kind == "net":
                ready = _NET_INIT_END.search(self.data, stop, min(self.size, stop + _LONGEST))
                content = {"wiring": bytes(self.data[stop : ready.start() if ready else self.size])}
        self.events.append(LogEvent(self.base + at, kind, pid, time, text, content, rank))
        return True

    def _config_end(self, begin: int) -> int:
        """Where a configuration ends that begins at the line's end ``begin``."""
        while begin >= 0 and (likely := _LIKELY_END.search(self.data, begin, self.size)) is not None:
            line = self.data.rfind(b"\n", begin, likely.start()) + 1
            found = _CONFIG_END.match(self.data, line, self.size)
            if found is not None:
                return found.start("again") if found["again"] else line
            begin = self.data.find(b"\n", likely.end(), self.size)
        return self.size

    def _labelled(self, begin: int, label: bytes, rank: int) -> tuple[str, int]:
        """A configuration whose every line has a label in front, and where it ends."""
        form = re.compile(re.escape(label.rstrip()) + rb"[ \t]?")
        at, taken = begin + 1, list[bytes]()
        while at < min(self.size, begin + _LONGEST):
            end = self.data.find(b"\n", at, self.size)
            end = end if end >= 0 else self.size
            line = bytes(self.data[at:end])
            mine = form.match(line)
            if mine is not None:
                if PREFIX.match(line, mine.end()):
                    break
                taken.append(line[mine.end() :])
            elif rank < 0:
                break
            at = end + 1
        return b"\n".join(taken).decode(errors="replace"), min(at, self.size)

    def _clock_falls(self) -> None:
        """Where the clock of a process falls back, what Caffe measured itself is kept."""
        c = self.lines
        shown = np.flatnonzero(c.kind == LOSS)
        times = c.time[shown]
        if not len(shown) or not (self.base or (times[1:] < times[:-1]).any()):
            return
        falls = np.flatnonzero((np.diff(times) < 0) & (np.diff(c.pid[shown]) == 0)) + 1
        for number in shown[np.concatenate([[0], falls])].tolist() if self.base else shown[falls].tolist():
            begin = int(self.lines.start[number])
            pace = _PACE.search(self.data, begin, self.data.index(b"\n", begin))
            if pace is not None:
                content = {"seconds": float(pace[1]), "iterations": int(pace[2])}
                where = self.base + begin
                self.events.append(LogEvent(where, "pace", int(c.pid[number]), NO_TIME, "", content))


def _printable(value: Any) -> Any:
    """The same without lone surrogates, which no file can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list) else value


def parse_block(data: bytearray, size: int, base: int, templates: LineTemplates, *, ended: bool) -> Block:
    """Lines and events of the first ``size`` bytes of ``data``, behind which ``PAD`` or more text must follow.

    ``base`` is their offset in the log, in bytes; ``templates`` grow by what the block teaches; ``ended`` says that
    more of the log follows, so the last line is whole. Any bytes are taken: nothing is raised for what they are.
    """
    parsed = _BlockParser(data, size, base, templates, ended=ended)
    events = sorted(parsed.events, key=lambda one: one.byte_offset)
    return Block(parsed.lines, tuple(events), parsed.bad, parsed.is_caffe)
