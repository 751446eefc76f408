"""What is known of one run while it trains: its figures, its speed, the time left."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

from caffebench.launcher.show.logtail import LogTail

__all__ = ["Row", "duration"]

WINDOW = 20.0
"""Seconds that the shown speed is an average over."""


@dataclass
class Row:
    """What is shown of one run."""

    FIGURES: ClassVar = ("iteration", "loss", "accuracy", "it/s", "left")
    run: str
    max_iter: int
    state: str = "waiting"
    iteration: int = 0
    loss: float | None = None
    accuracy: float | None = None
    marks: deque[tuple[float, int]] = field(default_factory=deque)
    """Times and iterations, newest last, over about ``WINDOW`` seconds."""

    def update(self, tail: LogTail, now: float) -> None:
        """Take over what the log says by now (seconds of a monotonic clock)."""
        self.state = "training" if tail.started else "starting"
        self.loss, self.accuracy = tail.loss, tail.accuracy  # the figures of a test come long after its iteration
        if tail.iteration is None or (self.marks and tail.iteration == self.iteration):
            return
        if tail.iteration < self.iteration:
            self.marks.clear()  # resumed from before
        self.iteration = tail.iteration
        self.marks.append((now, tail.iteration))
        while len(self.marks) > 2 and now - self.marks[0][0] > WINDOW:
            self.marks.popleft()

    @property
    def speed(self) -> float | None:
        """Iterations per second lately."""
        if len(self.marks) < 2 or self.marks[-1][0] <= self.marks[0][0]:
            return None
        (start, first), (end, last) = self.marks[0], self.marks[-1]
        return (last - first) / (end - start)

    @property
    def left(self) -> float | None:
        """Seconds to the end at that speed."""
        return (self.max_iter - self.iteration) / self.speed if self.speed else None

    def cells(self) -> dict[str, str]:
        """The figures as text by the names of ``FIGURES``; empty if there is none yet."""
        speed, left = (self.speed, self.left) if self.state == "training" else (None, None)
        return {
            "iteration": f"{self.iteration}/{self.max_iter}",
            "loss": "" if self.loss is None else f"{self.loss:.4g}",
            "accuracy": "" if self.accuracy is None else f"{self.accuracy:.4f}",
            "it/s": "" if speed is None else f"{speed:.1f}",
            "left": "" if left is None else duration(left),
        }

    def line(self) -> str:
        """All of it in one plain line."""
        shown = [f"{name} {cell}" for name, cell in self.cells().items() if cell]
        return f"{self.run}: {', '.join(shown)}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 3 h 20 min, 2 d 5 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s" if whole < 600 else f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
