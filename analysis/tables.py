"""``curves.csv``, ``summary.csv``, and the results table as people publish it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from caffebench.analysis.model import COLUMNS, Run
from caffebench.common.files import write_whole

__all__ = ["SUMMARY", "markdown", "summary", "truncated", "write_curves", "write_summary"]

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


def truncated(value: float | None, digits: int) -> str:
    """``value`` with ``digits`` decimals, cut and not rounded, as the published tables are (0.4657 is 0.465)."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "n/c"
    # Six significant digits are all that Caffe prints: so 0.47 is 0.470, though no float is exactly 0.47.
    whole, _, rest = f"{value:.6f}".partition(".")
    return f"{whole}.{rest[:digits]}"


def _comment(run: Run) -> str:
    said = [str(run.header["comment"])] if run.header.get("comment") else []
    if not said:
        rate = run.config.base_lr
        said = [f"lr={rate:g}"] if rate is not None else []
        said += [f"{run.max_iter / 1000:g}K iters"] if run.max_iter else []
    if run.status in {"stopped", "crashed"} and run.iteration is not None and run.iteration < (run.max_iter or 0):
        word = "in progress" if run.status == "stopped" else "crashed"
        said.append(f"{word}: {run.iteration / 1000:g}K iters")
    return ", ".join(said)


def markdown(runs: Sequence[Run]) -> str:
    """Name | Accuracy | LogLoss | Comments; the best in bold, n/c, published figures beside ours where known."""
    published = any(any(run.published) for run in runs)
    titles = ["Name", "Accuracy", "LogLoss", *(["Published accuracy", "Published LogLoss"] if published else [])]
    rows = [
        [*titles, "Comments"],
        ["-------", "---------:", "-------:", *(["---:"] * 2 if published else []), ":-----"],
    ]
    good = [run for run in runs if run.status not in {"not_converged", "empty"}]
    best = max((run.accuracy for run in good if run.accuracy is not None), default=None)
    least = min((run.loss for run in good if run.loss is not None), default=None)
    for run in runs:
        failed = run.status == "not_converged"
        accuracy = "n/c" if failed else truncated(run.accuracy, 3)
        loss = "n/c" if failed else truncated(run.loss, 2)
        if run.accuracy is not None and run.accuracy == best and run in good:
            accuracy = f"**{accuracy}**"
        if run.loss is not None and run.loss == least and run in good:
            loss = f"**{loss}**"
        label = f"{run.label}, **default**" if run.header.get("default") else run.label
        cells = [label, accuracy, loss, *(run.published if published else ()), _comment(run)]
        rows.append([cell.replace("|", "\\|").replace("\n", " ") for cell in cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
