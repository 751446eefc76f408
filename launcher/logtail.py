"""Reading a run's log while it is being written: what the progress line and the watch over a run need."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from caffebench.common.scores import Choice, TestOutput, choose_accuracy, choose_loss

__all__ = ["LogTail", "glog_line", "log_event"]

LINE = re.compile(rb"^([IWEF])\d{4}\S* \S+\s+\d+ (\S+?):(\d+)\] (.*)$")
TRAIN = re.compile(r"Iteration (\d+).*?, loss = (\S+)")
TEST = re.compile(r"Iteration (\d+), Testing net \(#(\d+)\)")
SCORE = re.compile(r"    Test net output #\d+: (\S.*?) = (\S+)(?: \(\* (\S+) = \S+ loss\))?$")
EVENT = re.compile(r"caffebench: (\w+) (\{.*\})$")


def glog_line(message: str) -> str:
    """A line as glog (0.5 or newer) writes it, for what has to be said when the child cannot."""
    now = time.time()
    stamp = time.strftime("%Y%m%d %H:%M:%S", time.localtime(now))
    return f"I{stamp}.{int(now % 1 * 1e6):06} {os.getpid():5} launcher.py:1] {message}\n"


def log_event(event: str, content: dict[str, Any]) -> str:
    """The message of a line of ours in a log: the event's name and one JSON object."""
    return f"caffebench: {event} {json.dumps(content)}"


@dataclass
class LogTail:
    """What a growing log says so far. Call ``read`` from time to time."""

    path: Path
    iteration: int | None = None
    loss: float | None = None
    started: bool = False
    """Training has begun: the net was built, the data opened, the snapshot restored."""
    fatal: str | None = None
    """Source and text of the line that ended the process ("io.cpp Check failed: ...")."""
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last event of each name among our own lines."""
    last_line: str = ""
    tested_at: int | None = None
    """The iteration of the last test."""
    _test: list[tuple[TestOutput, float]] = field(default_factory=list)
    """Outputs of the last test, of all test nets, as far as it has got."""
    _test_before: list[tuple[TestOutput, float]] = field(default_factory=list)
    _net: int = 0
    _offset: int = 0
    _rest: bytes = b""

    @property
    def accuracy(self) -> float | None:
        """The last test's accuracy, of its outputs that which merge-logs would take."""
        return _value(self._test or self._test_before, choose_accuracy)

    @property
    def test_loss(self) -> float | None:
        """The last test's loss, likewise."""
        return _value(self._test or self._test_before, choose_loss)

    def read(self) -> None:
        """Take in what was written since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)

    def finish(self) -> None:
        """Take in the rest, a last line without an end too."""
        self.read()
        if self._rest:
            self._take(self._rest)
            self._rest = b""

    def _take(self, raw: bytes) -> None:
        match = LINE.match(raw)
        if match is None:
            if raw.strip():
                self.last_line = raw.decode(errors="replace").strip()
            return
        severity, source, message = match[1], match[2].decode(), match[4].decode(errors="replace")
        if severity == b"F":
            self.fatal = f"{source} {message}"
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
        elif found := EVENT.match(message):
            self.events[found[1]] = json.loads(found[2])
        elif message == "Starting Optimization":
            self.started = True


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
