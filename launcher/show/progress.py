"""Showing runs while they train: a live table on a terminal, an occasional plain line anywhere else."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from caffebench.common.printable import printable
from caffebench.launcher.gpu.load import GpuLoad
from caffebench.launcher.plan.outcome import Outcome
from caffebench.launcher.show.logtail import LogTail

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Board", "Row", "duration"]

QUIET = 30.0
"""Seconds between two plain lines about one run."""
MANY = 20
"""More runs than this, and only those under way get a row."""
WINDOW = 20.0
"""Seconds that the shown speed is an average over."""


@dataclass
class Row:
    """What is shown of one run."""

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
        self.loss, self.accuracy = tail.loss, tail.accuracy  # a test says its figures long after its iteration
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

    def cells(self) -> list[str]:
        """The figures as text; empty where there is none yet."""
        return [
            f"{self.iteration}/{self.max_iter}",
            "" if self.loss is None else f"{self.loss:.4g}",
            "" if self.accuracy is None else f"{self.accuracy:.4f}",
            "" if self.speed is None else f"{self.speed:.1f}",
            "" if self.left is None or self.state != "training" else duration(self.left),
        ]

    def line(self) -> str:
        """All of it in one plain line."""
        names = ("iteration", "loss", "accuracy", "it/s", "left")
        shown = [f"{name} {cell}" for name, cell in zip(names, self.cells(), strict=True) if cell]
        return f"{self.run}: {', '.join(shown)}"


class Board:
    """All runs of one command. Use it as a context manager; its methods may be called from any thread."""

    def __init__(self, runs: dict[str, int], load: GpuLoad | None = None) -> None:
        """``runs`` maps the name of each run to its last iteration; ``load`` tells how busy their GPUs are."""
        self.load = load or GpuLoad(())
        self.rows = {run: Row(run, max_iter) for run, max_iter in runs.items()}
        self.live: Any = None
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}

    def __enter__(self) -> Board:
        """Start the live table, on a terminal."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), get_renderable=self._table, refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the table as it stands."""
        if self.live is not None:
            self.live.stop()

    def say(self, text: str) -> None:
        """Tell people something, once; runs go on where nobody can hear it any more.

        What is told quotes files, logs and names, which must not reach the terminal as commands to it.
        """
        text = printable(text)
        with self._lock:
            try:
                if self.live is not None:
                    self.live.console.print(text, markup=False, highlight=False, soft_wrap=True)
                else:
                    print(text, file=sys.stderr, flush=True)
            except OSError:  # the terminal is gone, or who read the pipe
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, sys.stderr.fileno())
                os.close(nowhere)

    def update(self, run: str, tail: LogTail) -> None:
        """Bring the row of ``run`` up to date."""
        now = time.monotonic()
        row = self.rows[run]
        row.update(tail, now)
        if self.live is None and row.loss is not None and now - self._told.setdefault(run, now) > QUIET:
            self._told[run] = now
            self.say(", ".join(filter(None, [row.line(), self.load.line()])))

    def end(self, outcome: Outcome) -> None:
        """Show how a run ended."""
        row = self.rows[outcome.run]
        row.state, row.iteration = outcome.status, outcome.iteration
        text = f"{outcome.run}: {outcome.status.replace('_', ' ')} at iteration {outcome.iteration}"
        text = ", ".join(filter(None, [text, outcome.score, outcome.reason]))
        if outcome.status == "refused":
            text = f"{outcome.run}: {outcome.reason}"
        self.say(text)

    def _table(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        rows = list(self.rows.values())
        caption = None
        if len(rows) > MANY:
            counts = Counter(row.state.replace("_", " ") for row in rows)
            caption = ", ".join(f"{count} {state}" for state, count in counts.items())
            rows = [row for row in rows if row.state in ("starting", "training")]
        caption = "; ".join(filter(None, [caption, self.load.line()])) or None
        table = Table(box=None, pad_edge=False, caption=caption, caption_justify="left")
        for name in ("run", "", "", "iteration", "loss", "accuracy", "it/s", "left"):
            table.add_column(name, justify="left" if name in ("run", "") else "right", no_wrap=True)
        for row in rows:
            bar = ProgressBar(total=row.max_iter, completed=row.iteration, width=20)
            table.add_row(Text(printable(row.run)), row.state, bar, *row.cells())
        return table


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
