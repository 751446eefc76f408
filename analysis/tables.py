"""``curves.csv`` and ``summary.csv``."""

from __future__ import annotations

import csv
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffebench.analysis._csv import rows_as_csv
from caffebench.analysis.model import COLUMNS, Run
from caffebench.analysis.parts import Key, Part, Stretch
from caffebench.analysis.rows import TEST
from caffebench.common.files import write_whole

if TYPE_CHECKING:
    import polars as pl

__all__ = ["SUMMARY", "summary", "write_curves", "write_summary"]

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
)
"""Columns of ``summary.csv``."""


def summary(runs: Sequence[Run]) -> pl.DataFrame:
    """A row a run, columns ``SUMMARY``; null where a run has no such value."""
    import polars as pl

    text = {"run", "sweep", "label", "status", "published_accuracy", "published_logloss"}
    real = {"seconds", "epochs", "base_lr", "accuracy", "loss", "best_accuracy"}
    types = {name: pl.String if name in text else pl.Float64 if name in real else pl.Int64 for name in SUMMARY}
    return pl.DataFrame(_summary(runs), schema=types)


def _summary(runs: Sequence[Run]) -> list[dict[str, Any]]:
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
            }
        )
    return rows


def write_curves(runs: Sequence[Run], path: Path) -> None:
    """Write the long table of all runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write((",".join(COLUMNS) + "\n").encode())
            for text in _in_turn(_lines_of_all(runs)):
                file.write(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _lines_of_all(runs: Sequence[Run]) -> Iterator[Callable[[], bytes]]:
    """For each stretch of rows, in order, what makes its lines."""
    for run in runs:
        stitched = run.stitched
        pairs = list(dict.fromkeys(pair for part in stitched.parts for pair in part.pairs()))
        places = {pair: place for place, pair in enumerate(pairs)}
        phases = (("test", net) if kind == TEST else ("train", "") for kind, _, net in pairs)
        heads = [_line(run.name, *phase) + b"," for phase in phases]
        names = [_line(stitched.labels[kind, code]) for kind, code, _ in pairs]
        for part in stitched.parts:
            for stretch in part.stretches:
                yield partial(_lines, part, stretch, places, heads, names)


def _lines(part: Part, stretch: Stretch, places: dict[Key, int], heads: list[bytes], names: list[bytes]) -> bytes:
    rows, seconds, epochs = part.open(stretch)
    what = (rows.kind, rows.metric, rows.net, rows.iteration)
    return rows_as_csv(places, heads, names, *what, epochs, seconds, part.session, rows.lr, rows.value)


def _line(*fields: object) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue().encode()


def _in_turn(jobs: Iterable[Callable[[], bytes]]) -> Iterator[bytes]:
    """What the jobs give, in their order; some are done ahead, one on each core."""
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        waiting: deque[Future[bytes]] = deque()
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > 3 * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def write_summary(runs: Sequence[Run], path: Path) -> None:
    """Write a row a run."""
    rows = [_line(*(row[name] for name in SUMMARY)) for row in _summary(runs)]  # without polars, which takes its time
    write_whole(path, b"".join(row + b"\n" for row in (_line(*SUMMARY), *rows)))
