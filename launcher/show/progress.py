"""Showing runs while they train: a live table on a terminal, an occasional plain line anywhere else."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from caffebench.common.messages import is_quiet, is_verbose
from caffebench.common.printable import printable
from caffebench.launcher.gpu.load import GpuLoad
from caffebench.launcher.plan.outcome import Outcome
from caffebench.launcher.show.logtail import LogTail
from caffebench.launcher.show.row import Row
from caffebench.launcher.show.table import FAILED, live_table

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Board", "Level"]

QUIET = 30.0
"""Seconds between two plain lines about one run."""
REDRAW = 0.25
"""Seconds between two drawings of the table."""


class Level(IntEnum):
    """How much a message matters."""

    URGENT = 0
    """What went wrong, and what the user must know: shown with ``-q`` too."""
    NORMAL = 1
    """What happens."""
    DETAIL = 2
    """Tests, snapshots, seeds and processes: shown with ``-v``."""


class Board:
    """All runs of one command. Use it as a context manager; its methods may be called from any thread."""

    def __init__(self, runs: Mapping[str, int], load: GpuLoad | None = None) -> None:
        """``runs`` maps the name of each run to its last iteration; ``load`` measures how busy their GPUs are."""
        self.load = load or GpuLoad(())
        self.rows = {run: Row(run, max_iter) for run, max_iter in runs.items()}
        self.live: Any = None
        self._lock = threading.Lock()
        self._last_line: dict[str, float] = {}
        self._drawn = 0.0

    def __enter__(self) -> Board:
        """Start the live table, on a terminal."""
        if sys.stderr.isatty() and not is_quiet():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            # Not rich's own thread: it draws beside what other threads print, and then leaves a table behind.
            self.live = Live(console=console, get_renderable=lambda: self.table(console.width), auto_refresh=False)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the table as it stands."""
        if self.live is not None:
            self.live.stop()

    def announce(self, text: str, level: Level = Level.URGENT, *, failed: bool = False) -> None:
        """Print a message, once, if that much is to be shown; runs continue where nobody can read it any more.

        Messages quote files, logs and names, which must not reach the terminal as commands to it.
        """
        if (level >= Level.NORMAL and is_quiet()) or (level == Level.DETAIL and not is_verbose()):
            return
        text = printable(text)
        with self._lock:
            try:
                if self.live is not None:
                    style = "red" if failed else None
                    self.live.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
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
        self._draw(now)
        if self.live is None and row.loss is not None and now - self._last_line.setdefault(run, now) > QUIET:
            self._last_line[run] = now
            self.announce(", ".join(filter(None, [row.line(), self.load.line()])), Level.NORMAL)

    def end(self, outcome: Outcome) -> None:
        """Show how a run ended."""
        row = self.rows[outcome.run]
        row.state, row.iteration = outcome.status, outcome.iteration
        self._draw()
        text = f"{outcome.run}: {outcome.status.replace('_', ' ')} at iteration {outcome.iteration}"
        text = ", ".join(filter(None, [text, outcome.score, outcome.reason]))
        if outcome.status == "refused":
            text = f"{outcome.run}: {outcome.reason}"
        level = Level.NORMAL if outcome.status == "done" else Level.URGENT
        self.announce(text, level, failed=outcome.status in FAILED)

    def _draw(self, now: float | None = None) -> None:
        """Draw the table anew, on a terminal; at the time ``now`` only if that was not done just before."""
        with self._lock:
            if self.live is not None and (now is None or now - self._drawn > REDRAW):
                self._drawn = time.monotonic()
                with suppress(OSError):  # the terminal is gone
                    self.live.refresh()

    def table(self, width: int) -> Table:
        """The runs as they are now, for a terminal of so many columns."""
        return live_table(list(self.rows.values()), width, self.load.line())
