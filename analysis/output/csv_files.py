"""``curves.csv`` and ``summary.csv``."""

from __future__ import annotations

import csv
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffebench.analysis.output._csv import print_rows, room_for
from caffebench.analysis.read.columns import TEST
from caffebench.analysis.runs.groups import Group
from caffebench.analysis.runs.model import COLUMNS, Run
from caffebench.analysis.stitch.curves import CHUNK, chunk_of
from caffebench.analysis.stitch.survivors import Survivors
from caffebench.common.extras import needs_extra
from caffebench.common.files import write_whole
from caffebench.common.printable import csv_text

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "GROUPS",
    "SUMMARY",
    "summary",
    "summary_rows",
    "with_lines",
    "write_curves",
    "write_groups",
    "write_summary",
]

SUMMARY = (
    "run",
    "sweep",
    "label",
    "status",
    "iteration",
    "max_iter",
    "sessions",
    "crashes",
    "lost_iterations",
    "seconds",
    "epochs",
    "batch_size",
    "base_lr",
    "accuracy",
    "loss",
    "best_accuracy",
    "best_iteration",
    "published_accuracy",
    "published_logloss",
    "variant",
    "seed",
)
"""Columns of ``summary.csv``."""

GROUPS = (
    "sweep",
    "variant",
    "label",
    "runs",
    "converged",
    "accuracy_mean",
    "accuracy_std",
    "loss_mean",
    "loss_std",
    "best_accuracy_mean",
)
"""Columns of ``groups.csv``: three of text, two counts of runs, means and standard deviations to 6 decimals.

Accuracies are shares of 1; a cell is empty where no run has such a value."""


def summary(runs: Sequence[Run]) -> pl.DataFrame:
    """One row for each run, columns ``SUMMARY``; null where a run has no such value.

    Text: ``run``, ``sweep``, ``label``, ``status`` (``Run.status``), ``published_accuracy``, ``published_logloss`` (as
    published), ``variant``. Float64: ``seconds`` (of training that led to the last row), ``epochs``, ``base_lr``,
    ``accuracy`` and ``loss`` (of the last test), ``best_accuracy``. Int64: ``iteration`` (the last that survives),
    ``max_iter``, ``best_iteration``, ``lost_iterations``; ``sessions``, ``crashes`` (counts); ``batch_size`` (images of
    an iteration); ``seed``. Raises ``InputError`` where Polars is missing.
    """
    with needs_extra("frames", "tables in Python need Polars"):
        import polars as pl

    text = {"run", "sweep", "variant", "label", "status", "published_accuracy", "published_logloss"}
    real = {"seconds", "epochs", "base_lr", "accuracy", "loss", "best_accuracy"}
    types = {name: pl.String if name in text else pl.Float64 if name in real else pl.Int64 for name in SUMMARY}
    return pl.DataFrame(summary_rows(runs), schema=types)


def summary_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The rows of ``summary.csv``: a value, or None, by the name of its column; types and units are of ``summary``."""
    rows = []
    for run in runs:
        best = run.best or (None, None)
        rows.append(
            {
                "run": run.name,
                "sweep": run.sweep,
                "label": run.label,
                "status": run.status,
                "iteration": run.iteration,
                "max_iter": run.max_iter,
                "sessions": len(run.sessions),
                "crashes": run.crashes,
                "lost_iterations": run.lost_iterations,
                "seconds": None if run.seconds is None else round(run.seconds, 3),
                "epochs": run.epochs,
                "batch_size": run.config.batch_size,
                "base_lr": None if run.config.base_lr is None else float(run.config.base_lr),
                "accuracy": run.accuracy,
                "loss": run.loss,
                "best_accuracy": best[0],
                "best_iteration": best[1],
                "published_accuracy": run.published[0] or None,
                "published_logloss": run.published[1] or None,
                "variant": run.variant or None,
                "seed": run.seed,
            }
        )
    return rows


def write_curves(runs: Sequence[Run], path: Path) -> None:
    """Write the long table of all ``runs`` to ``path``, a line for each value; its folder is made.

    The columns are ``COLUMNS``, types and units those of ``analysis.read``: epochs to 6 decimals, seconds to 3; a cell
    is empty where something is not known, and a value that is no number is ``NaN``. Text is quoted where CSV needs it,
    and what a spreadsheet would take for a formula begins with an apostrophe.

    Raises ``OSError`` where it cannot be written; an earlier file then stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb", buffering=0) as file:
            file.write((",".join(COLUMNS) + "\n").encode())
            for printed, some in groupby(runs, lambda run: run.csv_lines is not None):
                for text in _batches(some) if printed else _in_turn(_jobs(some)):
                    while text:
                        text = text[file.write(text) :]
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


Job = Callable[[bytearray], tuple[bytearray, int]]
"""Prints into the buffer, or into a larger one, and says which and how much."""


FEW = 4096
"""Rows of a run whose lines are printed where it is read."""


def with_lines(run: Run) -> Run:
    """The run with its lines of ``curves.csv`` and with what its rows say of its scores, where it has few rows.

    Of thousands of small runs all that is done so by the several processes that read them, not by one that waits.
    """
    if len(run.stitched) > FEW:
        return run
    pieces = (job(bytearray()) for job in _jobs([run]))
    done = replace(run, csv_lines=b"".join([bytes(memoryview(buffer)[:end]) for buffer, end in pieces]))
    _ = done.accuracy_choice, done.loss_choice, done.iteration, done.config.but_for_seed
    return done


def _batches(runs: Iterator[Run]) -> Iterator[memoryview]:
    """The lines of runs that have them, many runs at a time."""
    while some := [run.csv_lines or b"" for run in islice(runs, 100)]:
        yield memoryview(b"".join(some))


def _jobs(runs: Iterable[Run]) -> Iterator[Job]:
    """What makes the lines of all rows, in order, many rows at a time."""
    for run in runs:
        curves = run.stitched
        places = {pair: place for place, pair in enumerate(curves.pairs)}
        phases = (b"test,%d," % net if kind == TEST else b"train,," for kind, _, net in curves.pairs)
        name = _line(run.name, "")
        heads = [name + phase for phase in phases]
        names = [_cell(curves.labels[kind, code]) for kind, code, _ in curves.pairs]
        for part in curves.parts:
            for begin in range(0, len(part.rows), CHUNK):
                yield partial(_lines, part, begin, places, heads, names)


def _lines(
    part: Survivors,
    begin: int,
    places: dict[tuple[int, int, int], int],
    heads: list[bytes],
    names: list[bytes],
    buffer: bytearray,
) -> tuple[bytearray, int]:
    rows, seconds, epochs = chunk_of(part, begin)
    room = room_for(len(rows), heads, names)
    if len(buffer) < room:
        buffer = bytearray(room)
    what = (rows.kind, rows.metric, rows.net, rows.iteration)
    return buffer, print_rows(
        buffer, 0, places, heads, names, *what, epochs, seconds, part.session, rows.lr, rows.value
    )


def _line(*fields: object) -> bytes:
    return _table([fields])[:-1]


@lru_cache(maxsize=256)
def _cell(text: str) -> bytes:
    return _line(text)


def _table(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([csv_text(one) if isinstance(one, str) else one for one in row] for row in rows)
    return text.getvalue().encode()


def _in_turn(jobs: Iterable[Job]) -> Iterator[memoryview]:
    """What the jobs print, in their order; some are done ahead, one on each core. Only good until the next is asked."""
    cores = len(os.sched_getaffinity(0))
    spare = [bytearray() for _ in range(3 * cores)]  # fresh memory costs as much as the printing itself
    with ThreadPoolExecutor(cores) as pool:
        waiting: deque[Future[tuple[bytearray, int]]] = deque()
        for job in jobs:
            if not spare:
                buffer, end = waiting.popleft().result()
                yield memoryview(buffer)[:end]
                spare.append(buffer)
            waiting.append(pool.submit(job, spare.pop()))
        for done in waiting:
            buffer, end = done.result()
            yield memoryview(buffer)[:end]


def write_summary(runs: Sequence[Run], path: Path) -> None:
    """Write one row for each of ``runs`` (``SUMMARY``) to ``path``. Raises ``OSError`` where it cannot be written."""
    rows = [tuple(row.values()) for row in summary_rows(runs)]
    write_whole(path, _table([SUMMARY, *rows]))  # without polars, which takes its time


def write_groups(groups: Sequence[Group], path: Path) -> None:
    """Write one row for each of ``groups`` (``GROUPS``) to ``path``. Raises ``OSError`` where it cannot be written.

    Figures are those of the runs that converged, standard deviations those of the sample.
    """
    rows: list[tuple[object, ...]] = [GROUPS]
    for group in groups:
        accuracy, loss, best = group.accuracy(), group.loss(), group.best_accuracy()
        figures = [(one.mean, one.std) if one else (None, None) for one in (accuracy, loss)]
        counts = (len(group.runs), len(group.converged))
        means = [None if value is None else round(value, 6) for pair in figures for value in pair]
        most = None if best is None else round(best.mean, 6)
        rows.append((group.runs[0].sweep, group.variant, group.label, *counts, *means, most))
    write_whole(path, _table(rows))
