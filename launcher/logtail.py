"""Reading a run's log while it is being written: what the progress line and the watch over a run need."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["LogTail", "glog_line", "log_event"]

LINE = re.compile(rb"^([IWEF])\d{4}\S* \S+\s+\d+ (\S+?):(\d+)\] (.*)$")
TRAIN = re.compile(r"Iteration (\d+).*?, loss = (\S+)")
TEST = re.compile(r"Iteration (\d+), Testing net \(#(\d+)\)")
SCORE = re.compile(r"    Test net output #\d+: (\S*(?:acc|top-)\S*) = (\S+)", re.IGNORECASE)
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
    accuracy: float | None = None
    started: bool = False
    """Training has begun: the net was built, the data opened, the snapshot restored."""
    losses: list[tuple[int, float]] = field(default_factory=list)
    """Displayed losses that ``read`` found new in its last call."""
    fatal: str | None = None
    """Source and text of the line that ended the process ("io.cpp Check failed: ...")."""
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last event of each name among our own lines."""
    last_line: str = ""
    _first_score: bool = False
    _offset: int = 0
    _rest: bytes = b""

    def read(self) -> None:
        """Take in what was written since the last call."""
        self.losses = []
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
            self.iteration, self._first_score = int(found[1]), True
        elif found := SCORE.match(message):
            # The first accuracy of a test is top-1: it comes before top-5 in the nets of this trade.
            if self._first_score:
                self.accuracy, self._first_score = float(found[2]), False
        elif found := TRAIN.match(message):
            self.iteration, self.loss = int(found[1]), float(found[2])
            self.losses.append((self.iteration, self.loss))
        elif found := EVENT.match(message):
            self.events[found[1]] = json.loads(found[2])
        elif message == "Starting Optimization":
            self.started = True
