"""Plots of runs: each function draws into the axes it is given and returns them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caffebench.analysis.model import Run

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

__all__ = ["PLOTS", "draw_learning_rate", "draw_test_accuracy", "draw_test_loss", "draw_train_loss", "save_plots"]

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's colours, told apart by the colour-blind too."""
STYLES = ("-", "--", ":", "-.")
AXES = {"iteration": "iteration", "epoch": "epoch", "seconds": "training time, s"}


def _style(index: int) -> tuple[str, str]:
    return COLORS[index % len(COLORS)], STYLES[index // len(COLORS) % len(STYLES)]


def _draw(ax: Axes, curves: Sequence[tuple[Run, pl.DataFrame]], value: str, x: str, title: str) -> Axes:
    for index, (run, rows) in enumerate(curves):
        rows = rows.drop_nulls(x)
        if not rows.is_empty():
            color, style = _style(index)
            ax.plot(rows[x], rows[value], color=color, linestyle=style, linewidth=1.2, label=run.label)
    ax.set_xlabel(AXES[x])
    ax.set_ylabel(title)
    ax.grid(alpha=0.3)
    if ax.lines:
        ax.legend(fontsize="small")
    return ax


def draw_test_accuracy(ax: Axes, runs: Sequence[Run], x: str = "iteration") -> Axes:
    """Accuracy of test net 0 (top-1 before top-5)."""
    return _draw(ax, [(run, run.curve(run.accuracy_metric or "accuracy")) for run in runs], "value", x, "test accuracy")


def draw_test_loss(ax: Axes, runs: Sequence[Run], x: str = "iteration") -> Axes:
    """Loss of test net 0."""
    return _draw(ax, [(run, run.curve(run.loss_metric or "loss")) for run in runs], "value", x, "test loss")


def draw_train_loss(ax: Axes, runs: Sequence[Run], x: str = "iteration") -> Axes:
    """The loss of the train lines."""
    return _draw(ax, [(run, run.curve("loss", "train")) for run in runs], "value", x, "train loss")


def draw_learning_rate(ax: Axes, runs: Sequence[Run], x: str = "iteration") -> Axes:
    """The learning rate, on a logarithmic axis."""
    ax.set_yscale("log")
    return _draw(ax, [(run, run.curve("loss", "train").drop_nulls("lr")) for run in runs], "lr", x, "learning rate")


PLOTS = {
    "test_accuracy": draw_test_accuracy,
    "test_loss": draw_test_loss,
    "train_loss": draw_train_loss,
    "learning_rate": draw_learning_rate,
}


def save_plots(runs: Sequence[Run], folder: Path, x: str = "iteration") -> list[Path]:
    """Save every plot as PNG; returns the paths."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in PLOTS.items():
        figure = Figure(figsize=(8, 5), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.add_subplot(), runs, x)
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=150)
        paths.append(path)
    return paths
