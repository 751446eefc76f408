"""Runs on the terminal: how far reading is, and a line for each run."""

from __future__ import annotations

import gc
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from caffebench.analysis.output.csv_files import summary_rows, with_lines
from caffebench.analysis.output.session_report import clock
from caffebench.analysis.output.table.results_table import rounded_accuracy, rounded_loss
from caffebench.analysis.runs.model import Run
from caffebench.analysis.runs.reading import read_runs
from caffebench.common.messages import announce
from caffebench.common.printable import printable
from caffebench.common.terminal import Column, progress_bars, table

__all__ = ["overview", "read_with_progress", "remarks", "summary_json"]


def read_with_progress(
    paths: Sequence[Path], train_size: int | None, named: Mapping[str, Sequence[Path]] | None = None
) -> list[Run]:
    """Read runs with as many processes as there are processors, and show on a terminal how far it is.

    The arguments are those of ``read_runs``, which raises the errors; what is left out is said on stderr.
    """
    gc.disable()  # no run is in a cycle, and to look at all of them again and again for one takes its time
    try:
        with progress_bars() as update:
            return read_runs(
                paths,
                train_size,
                progress=lambda done, total: update("reading logs", done, total, "logs"),
                workers=os.cpu_count() or 1,
                named=named,
                finish=with_lines,
                unreadable=lambda why: announce(f"left out: {why}"),
            )
    finally:
        gc.freeze()
        gc.enable()


COLUMNS = (
    Column("run", text=True),
    Column("status", text=True),
    Column("iteration"),
    Column("accuracy"),
    Column("loss"),
    Column("sessions", rank=2),
    Column("crashes", rank=3),
    Column("lost", rank=4),
    Column("time", rank=1),
    Column("why", text=True, wraps=True),
)


def overview(runs: Sequence[Run]) -> str:
    """A table of ``COLUMNS`` with a line for each run; the time is of training, as hours:minutes:seconds.

    It is as wide as the terminal at most; where stdout is none, as wide as its longest line.
    """
    return table(COLUMNS, [_row(run) for run in runs])


def summary_json(runs: Sequence[Run]) -> str:
    """The rows of ``summary.csv`` as a JSON array of objects, names and units as of ``csv_files.summary``.

    JSON has no NaN and no infinity: they are null there, as missing values are.
    """
    rows = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in summary_rows(runs)
    ]
    return json.dumps(rows, indent=1)


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
    """What was left out of the logs of ``runs``, and logs of which much could not be read: a line of text each."""
    for run in runs:
        yield from run.notes
        if run.bad_lines >= max(MANY_BAD, BAD_SHARE * (len(run.stitched) + run.bad_lines)):
            where = ", ".join(run.sources[:3]) + (", ..." if len(run.sources) > 3 else "")
            yield f"{run.name}: {run.bad_lines:,} bad lines, cut or garbled, were skipped in {where}"
