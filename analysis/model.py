"""What is known about a run: the types that every other part of the analysis works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from caffebench.analysis.config import Config

if TYPE_CHECKING:
    import polars as pl

__all__ = ["COLUMNS", "Run", "Session"]

COLUMNS = ("run", "phase", "net", "iteration", "epoch", "seconds", "session", "lr", "metric", "value")
"""Columns of the long table of curves."""


@dataclass
class Session:
    """One start of Caffe, from its first line to its last, whether it trained or failed at once."""

    number: int
    """1, 2, ... in true order; the same number stands in the curves."""
    source: str
    """The file that it is in."""
    pid: int
    began: datetime | None = None
    """Local time; the year is 1600 where the log does not tell it."""
    finished: datetime | None = None
    resumed_from: int | None = None
    """Iteration of the snapshot that it resumed; None where it began anew."""
    weights: str | None = None
    """File of the weights that it was started with (``Finetuning from``)."""
    first_iteration: int | None = None
    last_iteration: int | None = None
    ended: str = "cut"
    """``done``, ``stopped`` on request, ``crashed``, ``not_converged`` (seen by the launcher), ``cut``: not a word."""
    reason: str = ""
    lost_iterations: int = 0
    """Iterations that a later session threw away."""
    seconds: float = 0.0
    """Wall-clock seconds of training in it, lost ones too."""
    config: Config = field(default_factory=Config)
    restored: tuple[str, ...] = ()
    not_restored: tuple[str, ...] = ()

    @property
    def trained(self) -> bool:
        """At least one iteration or test of it is in the log."""
        return self.first_iteration is not None


@dataclass
class Run:
    """One training run: all its sessions, stitched."""

    name: str
    sources: list[str]
    sessions: list[Session]
    config: Config
    """Of the last session that trained; of the first session where none did."""
    header: dict[str, Any]
    """Header of the generated file (``caffebench: run`` line); empty for logs that are not ours."""
    status: str
    """``done``, ``stopped``, ``crashed``, ``not_converged`` or ``empty``."""
    reason: str
    """Why this status, in words."""
    curves: pl.DataFrame
    """The long table (``COLUMNS``) of the surviving iterations, in order."""
    train_size: int | None = None
    """Images of one epoch."""
    seconds: float | None = None
    """Training seconds that led to the last surviving weights."""
    bad_lines: int = 0
    """Lines of Caffe that were cut or garbled, and skipped."""

    @property
    def iteration(self) -> int | None:
        """The last iteration that survives."""
        return None if self.curves.is_empty() else int(self.curves["iteration"].max())  # type: ignore[arg-type]

    @property
    def max_iter(self) -> int | None:
        """The iteration that training was to reach."""
        return self.config.max_iter

    @property
    def lost_iterations(self) -> int:
        """Iterations that were trained and thrown away by a resume from an earlier snapshot."""
        return sum(one.lost_iterations for one in self.sessions)

    @property
    def crashes(self) -> int:
        """Sessions that died: of an error, of a signal that nobody sends on purpose, or without a word.

        A session that ended without a word counts if another followed and iterations were lost, or none was trained:
        otherwise its last lines were only cut off, or it is still running.
        """
        return sum(
            one.ended == "crashed"
            or (one.ended == "cut" and one is not self.sessions[-1] and (one.lost_iterations > 0 or not one.trained))
            for one in self.sessions
        )

    @property
    def classes(self) -> int | None:
        """Number of classes, from the header or the net."""
        said = self.header.get("classes")
        return said if isinstance(said, int) and said > 1 else self.config.classes

    @property
    def sweep(self) -> str:
        """Name of the sweep, empty for logs that are not ours."""
        return str(self.header.get("sweep") or "")

    @property
    def label(self) -> str:
        """How the run is called in tables and legends."""
        return str(self.header.get("label") or self.name)

    def curve(self, metric: str, phase: str = "test", net: int | None = None) -> pl.DataFrame:
        """The rows of one metric in order; of test net 0 unless ``net`` says otherwise."""
        import polars as pl

        rows = self.curves.filter((pl.col("phase") == phase) & (pl.col("metric") == metric))
        return rows if phase == "train" else rows.filter(pl.col("net") == (net or 0))

    @property
    def accuracy_metric(self) -> str | None:
        """The test metric that is the accuracy: top-1 before top-5, the last classifier of several; None without."""
        return _pick(self.curves, _accuracy_rank)

    @property
    def loss_metric(self) -> str | None:
        """The test metric that is the loss: of several, the last; None without."""
        return _pick(self.curves, _loss_rank)

    def last(self, metric: str | None) -> float | None:
        """The last test's value of ``metric``."""
        return None if metric is None else _value(self.curve(metric), -1)

    @property
    def accuracy(self) -> float | None:
        """Accuracy of the last test."""
        return self.last(self.accuracy_metric)

    @property
    def loss(self) -> float | None:
        """Loss of the last test."""
        return self.last(self.loss_metric)

    @property
    def best(self) -> tuple[float, int] | None:
        """The best test accuracy and its iteration (the first, where several are equal)."""
        if self.accuracy_metric is None:
            return None
        rows = self.curve(self.accuracy_metric).drop_nans("value")
        if rows.is_empty():
            return None
        best = int(rows["value"].arg_max())  # type: ignore[arg-type]
        return float(rows["value"][best]), int(rows["iteration"][best])

    @property
    def epochs(self) -> float | None:
        """Epochs trained up to the last surviving iteration."""
        return None if self.curves.is_empty() else self.curves["epoch"][-1]

    @property
    def published(self) -> tuple[str, str]:
        """Published accuracy and log-loss, as published; empty where none is known."""
        accuracy, loss = (self.header.get(f"published_{what}") for what in ("accuracy", "logloss"))
        return ("" if accuracy is None else str(accuracy)), ("" if loss is None else str(loss))


def _value(rows: pl.DataFrame, index: int) -> float | None:
    return None if rows.is_empty() else float(rows["value"][index])


def _accuracy_rank(name: str) -> int | None:
    low = name.lower()
    if "top-5" in low or "top5" in low or "top_5" in low:
        return 2
    if any(word in low for word in ("top-1", "top1", "top_1")):
        return 0
    return 1 if "acc" in low or low in {"score0", "detection_eval"} else None


def _loss_rank(name: str) -> int | None:
    low = name.lower()
    return 1 if low in {"total_loss", "score1"} else 0 if "loss" in low and _accuracy_rank(name) is None else None


def _pick(curves: pl.DataFrame, rank: Any) -> str | None:
    import polars as pl

    names = curves.filter((pl.col("phase") == "test") & (pl.col("net") == 0))["metric"].cast(pl.String)
    ranked = [(rank(name), -place, name) for place, name in enumerate(names.unique(maintain_order=True).to_list())]
    known = [one for one in ranked if one[0] is not None]
    return min(known)[2] if known else None
