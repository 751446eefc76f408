"""``curves.csv`` and ``summary.csv``."""

from __future__ import annotations

import csv
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffebench.analysis.output._csv import print_rows
from caffebench.analysis.read.columns import TEST
from caffebench.analysis.runs.model import COLUMNS, Run
from caffebench.common.extras import needs_extra
from caffebench.common.files import write_whole
from caffebench.common.printable import csv_text

if TYPE_CHECKING:
    import polars as pl

    from caffebench.analysis.runs.groups import Group

__all__ = [
    "GROUPS",
    "SUMMARY",
    "renamed_to",
    "summary",
    "summary_rows",
    "with_lines",
    "write_curves",
    "write_groups",
    "write_summary",
]

_SUMMARY: dict[str, Callable[[Run], Any]] = {
    "run": lambda run: run.name,
    "sweep": lambda run: run.sweep,
    "label": lambda run: run.label,
    "status": lambda run: run.status,
    "iteration": lambda run: run.iteration,
    "max_iter": lambda run: run.max_iter,
    "sessions": lambda run: len(run.sessions),
    "crashes": lambda run: run.crashes,
    "lost_iterations": lambda run: run.lost_iterations,
    "seconds": lambda run: None if run.seconds is None else round(run.seconds, 3),
    "epochs": lambda run: run.epochs,
    "batch_size": lambda run: run.config.batch_size,
    "base_lr": lambda run: None if run.config.base_lr is None else float(run.config.base_lr),
    "accuracy": lambda run: run.accuracy,
    "loss": lambda run: run.loss,
    "best_accuracy": lambda run: run.best[0] if run.best else None,
    "best_iteration": lambda run: run.best[1] if run.best else None,
    "published_accuracy": lambda run: run.published[0] or None,
    "published_logloss": lambda run: run.published[1] or None,
    "variant": lambda run: run.variant or None,
    "seed": lambda run: run.seed,
}
SUMMARY = tuple(_SUMMARY)
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
"""Columns of ``groups.csv``: three of text, two counts of runs, means and standard deviations to 6 digits.

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
    return [{name: value_of(run) for name, value_of in _SUMMARY.items()} for run in runs]


@contextmanager
def renamed_to(path: Path) -> Iterator[Path]:
    """A temporary file to write into, which becomes ``path`` at the end; ``path`` stays as it was where that fails.

    The folder is made. Raises ``OSError``, of ``path``: the user knows of no other file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_curves(runs: Sequence[Run], path: Path, *, guarded: bool = True) -> None:
    """Write the long table of all ``runs`` to ``path``, a line for each value; its folder is made.

    The columns are ``COLUMNS``, types and units those of ``analysis.read``: epochs to 6 decimals, seconds to 3; a cell
    is empty where something is not known, and a value that is no number is ``NaN``. Text is quoted where CSV needs it,
    and what a spreadsheet would take for a formula begins with an apostrophe, unless ``guarded`` is false.

    Raises ``OSError`` where it cannot be written; an earlier file then stays as it was.
    """
    with renamed_to(path) as temporary, temporary.open("wb", buffering=1 << 18) as file:
        file.write((",".join(COLUMNS) + "\n").encode())
        for printed, some in groupby(runs, lambda run: guarded and run.csv_lines is not None):
            for text in map(attrgetter("csv_lines"), some) if printed else _ahead(_jobs(some, guarded)):
                file.write(text)


FEW = 4096
"""Rows of a run whose lines are printed where it is read."""


def with_lines(run: Run) -> Run:
    """The run with its lines of ``curves.csv`` and with what its rows say of its scores, where it has few rows.

    Of thousands of small runs all that is done so by the several processes that read them, not by one that waits.
    """
    if len(run.stitched) > FEW:
        return run
    done = replace(run, csv_lines=b"".join([job() for job in _jobs([run], guarded=True)]))
    _ = done.accuracy, done.loss, done.best, done.iteration, done.epochs, done.config.solver_key
    return done


def _jobs(runs: Iterable[Run], guarded: bool) -> Iterator[Callable[[], bytearray]]:
    """What prints the lines of all rows, in order, many rows at a time."""
    for run in runs:
        curves = run.stitched
        places = {pair: place for place, pair in enumerate(curves.pairs)}
        phases = (b"test,%d," % net if kind == TEST else b"train,," for kind, _, net in curves.pairs)
        name = _table([[run.name, ""]], guarded)[:-1]
        heads = [name + phase for phase in phases]
        names = [_cell(curves.labels[pair], guarded) for pair in curves.pairs]
        for chunk in curves.chunks():
            rows = chunk.rows
            what = (rows.kind, rows.metric, rows.net, rows.iteration, chunk.epochs, chunk.seconds)
            yield partial(print_rows, places, heads, names, *what, chunk.session, rows.lr, rows.value)


@lru_cache(maxsize=256)
def _cell(text: str, guarded: bool) -> bytes:
    return _table([[text]], guarded)[:-1]


def _table(rows: Iterable[Sequence[object]], guarded: bool = True) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([csv_text(one) if guarded and isinstance(one, str) else one for one in row] for row in rows)
    return text.getvalue().encode(errors="backslashreplace")


def _ahead(jobs: Iterable[Callable[[], bytearray]]) -> Iterator[bytearray]:
    """What the jobs print, in their order; some are done ahead, one on each core."""
    from concurrent.futures import Future, ThreadPoolExecutor  # with the modules that it needs, 6 ms

    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        waiting: deque[Future[bytearray]] = deque()
        for job in jobs:
            if len(waiting) == 3 * cores:
                yield waiting.popleft().result()
            waiting.append(pool.submit(job))
        for done in waiting:
            yield done.result()


def write_summary(runs: Sequence[Run], path: Path) -> None:
    """Write one row for each of ``runs`` (``SUMMARY``) to ``path``. Raises ``OSError`` where it cannot be written."""
    rows = [tuple(row.values()) for row in summary_rows(runs)]
    write_whole(path, _table([SUMMARY, *rows]))  # without polars, which takes its time


def write_groups(groups: Sequence[Group], path: Path) -> None:
    """Write one row for each of ``groups`` (``GROUPS``) to ``path``. Raises ``OSError`` where it cannot be written.

    Figures are those of ``Group.converged``, standard deviations those of the sample.
    """
    rows: list[tuple[object, ...]] = [GROUPS]
    for group in groups:
        accuracy, loss, best = group.accuracy(), group.loss(), group.best_accuracy()
        figures = [(one.mean, one.std) if one else (None, None) for one in (accuracy, loss)]
        counts = (len(group.runs), len(group.converged))
        values = [*figures[0], *figures[1], None if best is None else best.mean]
        means = [None if value is None else float(f"{value:.6g}") for value in values]
        rows.append((group.runs[0].sweep, group.variant, group.label, *counts, *means))
    write_whole(path, _table(rows))
