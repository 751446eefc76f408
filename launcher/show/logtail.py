"""Reading a run's log while it is being written: what the progress line and the watch over a run need."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from caffebench.common.events import Event, read_event
from caffebench.common.glog import EVENT_MARK, STAMP
from caffebench.common.scores import Choice, TestOutput, choose_accuracy, choose_loss

__all__ = ["LogTail"]

E = TypeVar("E", bound=Event)
LINE = re.compile(rb"^(?=([IWEF]))" + STAMP + rb"\s*(?P<thread>\d+) (\S+?):(\d+)\] (.*)$")
TRAIN = re.compile(r"Iteration (\d+).*?, loss = (\S+)")
TEST = re.compile(r"Iteration (\d+), Testing net \(#(\d+)\)")
SCORE = re.compile(r"    Test net output #\d+: (\S.*?) = (\S+)(?: \(\* (\S+) = \S+ loss\))?$")
EVENT = re.compile(re.escape(EVENT_MARK) + r"(\w+) (\{.*\})$")


@dataclass
class LogTail:
    """What a growing log says so far.

    Only what the training process itself said counts: a name in a net may hold a line break and a forged line.
    """

    path: Path
    iteration: int | None = None
    loss: float | None = None
    started: bool = False
    """Training has begun: the net was built, the data opened, the snapshot restored."""
    fatal: str | None = None
    """Source and text of the line that ended the process ("io.cpp Check failed: ...")."""
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The JSON object of the last of our own lines of each name."""
    last_line: str = ""
    tested_at: int | None = None
    """The iteration of the last test."""
    _test: list[tuple[TestOutput, float]] = field(default_factory=list)
    """Outputs of the last test, of all test nets, as far as it has got."""
    _test_before: list[tuple[TestOutput, float]] = field(default_factory=list)
    _net: int = 0
    _speaker: int | None = None
    """The process that wrote the first event ``run``; Caffe's solver and our events speak in its main thread."""
    _rest: bytes = b""

    @property
    def accuracy(self) -> float | None:
        """The last test's accuracy, of its outputs that which merge-logs would take."""
        return _value(self._test or self._test_before, choose_accuracy)

    @property
    def test_loss(self) -> float | None:
        """The last test's loss, likewise."""
        return _value(self._test or self._test_before, choose_loss)

    @classmethod
    def of_file(cls, path: Path) -> LogTail:
        """What a whole log says; nothing where it cannot be read."""
        tail = cls(path)
        with suppress(OSError):
            tail.feed(path.read_bytes())
        tail.end()
        return tail

    def event(self, kind: type[E]) -> E | None:
        """The last event of a kind; None if there is none, or none that can be read."""
        return read_event(kind, self.events.get(kind.name))

    def feed(self, data: bytes) -> None:
        """Take in what was written since the last call."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)

    def end(self) -> None:
        """Take in the rest, a last line without an end too."""
        if self._rest:
            self._take(self._rest)
            self._rest = b""

    def _take(self, raw: bytes) -> None:
        match = LINE.match(raw)
        if match is None:
            if raw.strip():
                self.last_line = raw.decode(errors="replace").strip()
            return
        severity, thread, source = match[1], int(match[2]), match[3].decode(errors="replace")
        message = match[5].decode(errors="replace")
        if severity == b"F":
            self.fatal = f"{source} {message}"
        elif found := EVENT.match(message):
            self._take_event(found[1], found[2], thread)
        elif self._speaker not in (None, thread):
            return
        elif found := TEST.match(message):
            self.iteration, self._net = int(found[1]), int(found[2])
            if self._test and (self._net == 0 or self.iteration != self.tested_at):
                self._test_before, self._test = self._test, []
            self.tested_at = self.iteration
        elif found := SCORE.match(message):
            weight = None if found[3] is None else _number(found[3])
            self._test.append((TestOutput(found[1], self._net, weight), _number(found[2])))
        elif found := TRAIN.match(message):
            self.iteration, self.loss = int(found[1]), _number(found[2])
        elif message == "Starting Optimization":
            self.started = True

    def _take_event(self, name: str, text: str, thread: int) -> None:
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return
        if name == "run" and self._speaker is None and content.get("pid") == thread:
            self._speaker = thread
        # A guard of another GPU's process tells of its end; it decides nothing.
        if self._speaker in (None, thread) or name == "rank":
            self.events[name] = content


def _number(text: str) -> float:
    """A number as any C library prints it; what is none (MSVC's ``-1.#IND``) is not a number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _value(test: list[tuple[TestOutput, float]], choose: Callable[[list[TestOutput]], Choice | None]) -> float | None:
    """The value of what ``choose`` takes from a test's outputs; those of one name are told apart by an index."""
    counts = Counter((one.net, one.name) for one, _ in test)
    seen: Counter[tuple[int, str]] = Counter()
    values: dict[tuple[int, str], float] = {}
    outputs = []
    for one, value in test:
        key = (one.net, one.name)
        name = f"{one.name}[{seen[key]}]" if counts[key] > 1 else one.name
        seen[key] += 1
        values[one.net, name] = value
        outputs.append(replace(one, name=name))
    choice = choose(outputs)
    return None if choice is None else sum(factor * values[choice.net, name] for name, factor in choice.terms)
