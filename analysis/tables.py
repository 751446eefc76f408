"""``curves.csv`` and ``summary.csv``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from caffebench.analysis.model import COLUMNS, Run
from caffebench.common.files import write_whole

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
    text = {"run", "sweep", "label", "status", "published_accuracy", "published_logloss"}
    real = {"seconds", "epochs", "base_lr", "accuracy", "loss", "best_accuracy"}
    types = {name: pl.String if name in text else pl.Float64 if name in real else pl.Int64 for name in SUMMARY}
    return pl.DataFrame(rows, schema=types)


def write_curves(runs: Sequence[Run], path: Path) -> None:
    """Write the long table of all runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write((",".join(COLUMNS) + "\n").encode())
            for frame in (frame for run in runs for frame in run.stitched.frames()):
                frame.write_csv(file, include_header=False)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_summary(runs: Sequence[Run], path: Path) -> None:
    """Write a row a run."""
    write_whole(path, summary(runs).write_csv())
