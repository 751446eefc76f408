"""Runs on the terminal: how far reading is, and a line for each run."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from caffebench.analysis.output.session_report import clock
from caffebench.analysis.output.table.results_table import rounded_accuracy, rounded_loss
from caffebench.analysis.runs.model import Run
from caffebench.analysis.runs.reading import read_runs
from caffebench.common.printable import printable

__all__ = ["overview", "read_with_progress", "remarks"]

NARROW = 12
"""Columns that the last column has at least where a terminal is narrow."""


def read_with_progress(
    paths: Sequence[Path], train_size: int | None, named: Mapping[str, Sequence[Path]] | None = None
) -> list[Run]:
    """Read runs with as many processes as there are processors, and show on a terminal how far it is."""
    with _progress() as update:
        return read_runs(
            paths,
            train_size,
            progress=update,
            workers=os.cpu_count() or 1,
            named=named,
            unreadable=lambda why: click.echo(printable(f"left out: {why}"), err=True),
        )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar where somebody sees it; ``rich`` takes a quarter of a small log's time to be imported."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading logs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


TITLES = ("run", "status", "iteration", "accuracy", "loss", "sessions", "crashes", "lost", "time", "why")
LEFT = {"run", "status", "why"}
"""Columns that are text."""


def overview(runs: Sequence[Run]) -> str:
    """A table with a line for each run. Its last column is wrapped where the terminal is too narrow for it."""
    rows = [TITLES, *map(_row, runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize  # a pipe has no width
    room = max(NARROW, room - sum(widths[:-1]) - 2 * (len(widths) - 1))
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if title in LEFT else cell.rjust(width)
            for title, cell, width in zip(TITLES, row[:-1], widths, strict=False)
        ]
        first, *others = textwrap.wrap(row[-1], min(room, 10_000)) or [""]
        lines.append("  ".join([*cells, first]).rstrip())
        lines += [" " * (sum(widths[:-1]) + 2 * (len(widths) - 1)) + other for other in others]
    return "\n".join(lines)


def _row(run: Run) -> tuple[str, ...]:
    cells = (
        run.name,
        run.status,
        "-" if run.iteration is None else f"{run.iteration:,}",
        rounded_accuracy(run.accuracy),
        rounded_loss(run.loss),
        str(len(run.sessions)),
        str(run.crashes),
        f"{run.lost_iterations:,}",
        clock(run.seconds),
        "" if run.status == "done" else run.reason,
    )
    return tuple(map(printable, cells))


MANY_BAD, BAD_SHARE = 5, 0.02
"""Bad lines that are many, and the share of all lines with a value that they are then at least."""


def remarks(runs: Sequence[Run]) -> Iterator[str]:
    """What was left out of logs, and logs of which much could not be read."""
    for run in runs:
        yield from run.notes
        if run.bad_lines >= max(MANY_BAD, BAD_SHARE * (len(run.stitched) + run.bad_lines)):
            where = ", ".join(run.sources[:3]) + (", ..." if len(run.sources) > 3 else "")
            yield f"{run.name}: {run.bad_lines:,} bad lines, cut or garbled, were skipped in {where}"
