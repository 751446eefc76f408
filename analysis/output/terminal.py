"""Runs on the terminal: how far reading is, and a line for each run."""

from __future__ import annotations

import gc
import json
import math
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from caffebench.analysis.output.csv_files import summary_rows, with_lines
from caffebench.analysis.output.table.figures import clock, rounded_accuracy, rounded_loss
from caffebench.analysis.runs.model import Run
from caffebench.analysis.runs.reading import read_runs
from caffebench.analysis.runs.related import continued, copies
from caffebench.common.messages import announce
from caffebench.common.printable import printable, shortened
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


_COLUMNS: dict[Column, Callable[[Run], str]] = {
    Column("run", text=True): lambda run: run.name,
    Column("status", text=True): lambda run: run.status,
    Column("iteration"): lambda run: "-" if run.iteration is None else f"{run.iteration:,}",
    Column("accuracy"): lambda run: rounded_accuracy(run.accuracy),
    Column("loss"): lambda run: rounded_loss(run.loss),
    Column("sessions", rank=2): lambda run: str(len(run.sessions)),
    Column("crashes", rank=3): lambda run: str(run.crashes),
    Column("lost", rank=4): lambda run: f"{run.lost_iterations:,}",
    Column("time", rank=1): lambda run: clock(run.seconds),
    Column("why", text=True, wraps=True): lambda run: "" if run.status == "done" else run.reason,
}
"""What is shown of each run."""


def overview(runs: Sequence[Run]) -> str:
    """A table with a line for each run; the time is of training, as hours:minutes:seconds.

    It is as wide as the terminal at most; where stdout is none, as wide as its longest line.
    """
    return table(list(_COLUMNS), [[printable(cell_of(run)) for cell_of in _COLUMNS.values()] for run in runs])


def summary_json(runs: Sequence[Run]) -> str:
    """The rows of ``summary.csv`` as a JSON array of objects, names and units as of ``csv_files.summary``.

    JSON has no NaN and no infinity: they are null there, as missing values are.
    """
    rows = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in summary_rows(runs)
    ]
    return json.dumps(rows, indent=1)


MANY_BAD, BAD_SHARE = 5, 0.02
"""Bad lines that are many, and the share of all lines with a value that they are then at least."""


def remarks(runs: Sequence[Run]) -> Iterator[str]:
    """What was left out of the logs of ``runs``, and logs of which much could not be read: a line of text each."""
    alike: dict[str, list[str]] = {}
    for who, _, what in (note.partition(": ") for run in runs for note in run.notes):
        alike.setdefault(what, []).append(who)
    yield from (f"{shortened(who)}: {what}" for what, who in alike.items())
    for run in runs:
        if run.bad_lines >= max(MANY_BAD, BAD_SHARE * (len(run.stitched) + run.bad_lines)):
            where = ", ".join(run.sources[:3]) + (", ..." if len(run.sources) > 3 else "")
            yield f"{run.name}: {run.bad_lines:,} bad lines, cut or garbled, were skipped in {where}"
    for one, *copied in copies(runs):
        who = shortened([run.name for run in copied])
        yield f"{who} {'says' if len(copied) == 1 else 'say'} the same as {one.name}: leave out all but one"
    for first, *later in continued(runs):
        name, files = first.name.replace("=", "_"), [source for run in (first, *later) for source in run.sources]
        apart = files if any("," in file for file in files) else [",".join(files)]
        options = " ".join(f"--run {shlex.quote(f'{name}={one}')}" for one in apart)
        what = "continues" if len(later) == 1 else "continue"
        yield f"{', '.join(run.name for run in later)} {what} {first.name}: {options} makes one run of them"
