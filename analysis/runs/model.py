"""What is known about a run: the types that every other part of the analysis works on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from caffebench.analysis.runs.config import Config
from caffebench.analysis.stitch.session_rows import OF_A_HOST
from caffebench.common.printable import printable
from caffebench.common.scores import Choice, TestOutput, choose_accuracy, choose_loss, find_output

if TYPE_CHECKING:
    import polars as pl

    from caffebench.analysis.stitch.curves import RunCurves
    from caffebench.analysis.stitch.drawn import Drawn

__all__ = ["COLUMNS", "Run", "Session"]

COLUMNS = ("run", "phase", "net", "iteration", "epoch", "seconds", "session", "lr", "metric", "value")
"""Columns of the long table of curves."""


@dataclass(frozen=True)
class Session:
    """One start of Caffe, from its first line to its last, whether it trained or failed at once."""

    number: int
    """1, 2, ... in true order; the same number stands in the curves."""
    source: str
    """The file that it is in."""
    pid: int
    began: datetime | None = None
    """Local time; the year is 1600 if missing from the log."""
    finished: datetime | None = None
    resumed_from: int | None = None
    """Iteration of the snapshot that it resumed; None where it began anew."""
    resumed_file: str | None = None
    """That snapshot, as the log names it."""
    weights: str | None = None
    """File of the weights that it was started with (``Finetuning from``)."""
    first_iteration: int | None = None
    last_iteration: int | None = None
    headless: bool = False
    """The log begins in the middle of it: neither a start nor a resume is told."""
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

    @property
    def began_anew(self) -> bool:
        """It resumed nothing, and began at iteration 0."""
        return self.resumed_from is None and self.first_iteration == 0


@lru_cache(maxsize=64)
def _chosen(outputs: tuple[TestOutput, ...]) -> tuple[Choice | None, Choice | None]:
    """Accuracy and loss among test outputs; most runs of a folder have the same."""
    return choose_accuracy(outputs), choose_loss(outputs)


@dataclass(frozen=True)
class Run:
    """One training run: all its sessions, stitched."""

    name: str
    sources: tuple[str, ...]
    sessions: tuple[Session, ...]
    config: Config
    """Of the last session that trained; of the first session where none did."""
    header: dict[str, Any]
    """Header of the generated file (``caffebench: run`` line); empty for logs that are not ours."""
    identity: Mapping[str, Any]
    """What ``run-caffe`` says it is of (``launcher.solver.identity``); empty for logs that are not ours."""
    status: str
    """``done``, ``stopped``, ``crashed``, ``not_converged``, ``empty``, or ``tested``: a test of finished weights."""
    reason: str
    """Why this status, in words."""
    stitched: RunCurves
    """The surviving rows, in columns."""
    train_size: int | None = None
    """Images of one epoch."""
    seconds: float | None = None
    """Training seconds that led to the last surviving weights."""
    bad_lines: int = 0
    """Lines of Caffe that were cut or garbled, and skipped."""
    notes: tuple[str, ...] = ()
    """What was left out of its logs, in words."""
    accuracy_name: str | None = None
    """The test output that the user calls the accuracy; None for the one that its name says (``common.scores``)."""
    loss_name: str | None = None
    """The test output that the user calls the loss."""
    csv_lines: bytes | None = None
    """Its lines of ``curves.csv``, where the process that read it printed them already (``csv_files.with_lines``)."""

    @cached_property
    def curves(self) -> pl.DataFrame:
        """The long table (``COLUMNS``) of the surviving iterations, in order."""
        return self.stitched.frame()

    @property
    def iteration(self) -> int | None:
        """The last iteration that survives."""
        return self.stitched.iteration

    @property
    def max_iter(self) -> int | None:
        """The iteration that training was to reach."""
        return self.config.max_iter

    @property
    def finished(self) -> bool:
        """It is at its end: the log says so, or has its last iteration."""
        return self.status == "done" or (self.iteration or 0) >= (self.max_iter or math.inf)

    @property
    def lost_iterations(self) -> int:
        """Iterations that were trained and thrown away by a resume from an earlier snapshot."""
        return sum(one.lost_iterations for one in self.sessions)

    @property
    def lost_seconds(self) -> float:
        """Training time whose weights did not survive."""
        return max(0.0, sum(one.seconds for one in self.sessions) - (self.seconds or 0.0))

    @property
    def wall_seconds(self) -> float | None:
        """From the first line of the log to the last, nights and lost work included; None without times."""
        began = [one.began for one in self.sessions if one.began is not None]
        finished = [one.finished for one in self.sessions if one.finished is not None]
        if not began or not finished:
            return None
        return (max(finished) - min(began)).total_seconds()

    @property
    def crashes(self) -> int:
        """Sessions that died: of an error, of a signal that nobody sends on purpose, or without a word."""
        return sum(one.ended == "crashed" or self.died_silently(one) for one in self.sessions)

    def died_silently(self, session: Session) -> bool:
        """Whether ``session`` died without a word: another process followed, and iterations were lost or none trained.

        Otherwise its last lines were only cut off, it is still running, or a script restored an earlier snapshot.
        """
        if session.ended != "cut" or session is self.sessions[-1]:
            return False
        following = self.sessions[session.number]
        same = session.pid == following.pid and session.pid >= OF_A_HOST
        return not same and (session.lost_iterations > 0 or not session.trained)

    @property
    def classes(self) -> int | None:
        """Number of classes, from the header or the net."""
        classes = self.header.get("classes")
        return classes if isinstance(classes, int) and classes > 1 else self.config.classes

    @property
    def sweep(self) -> str:
        """Name of the sweep, empty for logs that are not ours."""
        return printable(str(self.header.get("sweep") or ""))

    @property
    def variant(self) -> str:
        """Name of the variant in its sweep, empty for logs that are not ours."""
        return printable(str(self.header.get("variant") or ""))

    @property
    def seed(self) -> int | None:
        """The seed of the solver; None if not given, or taken from the clock."""
        seed = self.config.solver.get("random_seed", [None])[-1]
        return seed if isinstance(seed, int) and seed >= 0 else None

    @property
    def label(self) -> str:
        """How the run is called in tables and legends."""
        return printable(str(self.header.get("label") or self.name))

    def curve(self, metric: str, phase: str = "test", net: int | None = None) -> pl.DataFrame:
        """The rows of one metric in order; of test net 0 unless ``net`` says otherwise."""
        return self.stitched.frame(self.stitched.chosen(metric, phase, None if phase == "train" else net or 0))

    def drawn(self, metric: str, phase: str = "test", net: int | None = None) -> Drawn:
        """The same as arrays, for pictures: made smaller where there are millions."""
        return self.stitched.drawn(metric, phase, None if phase == "train" else net or 0)

    def drawn_choice(self, choice: Choice | None) -> Drawn | None:
        """The curve of what ``accuracy_choice`` or ``loss_choice`` chose."""
        from caffebench.analysis.stitch.drawn import added

        if choice is None:
            return None
        return added([(self.drawn(name, "test", choice.net), factor) for name, factor in choice.terms])

    @property
    def test_outputs(self) -> tuple[TestOutput, ...]:
        """The outputs of all test nets, in the order in which the log names them."""
        return tuple(
            TestOutput(name, net, metric.weight if metric.index >= 0 else None)
            for net in sorted({net for _, net in self.stitched.scores})
            for name, metric in self.stitched.named("test", net)
        )

    @cached_property
    def _usual(self) -> tuple[Choice | None, Choice | None]:
        return _chosen(self.test_outputs)

    @cached_property
    def accuracy_choice(self) -> Choice | None:
        """Which test output is the accuracy; None without one."""
        return find_output(self.test_outputs, self.accuracy_name) if self.accuracy_name else self._usual[0]

    @cached_property
    def loss_choice(self) -> Choice | None:
        """Which test output is the loss, or which sum of outputs; None without one."""
        return find_output(self.test_outputs, self.loss_name) if self.loss_name else self._usual[1]

    @cached_property
    def accuracy(self) -> float | None:
        """Accuracy of the last test."""
        return self._last(self.accuracy_choice)

    @cached_property
    def loss(self) -> float | None:
        """Loss of the last test."""
        return self._last(self.loss_choice)

    def _last(self, choice: Choice | None) -> float | None:
        if choice is None:
            return None
        return sum(factor * self.stitched.scores[name, choice.net].last for name, factor in choice.terms)

    @property
    def tested_at(self) -> int | None:
        """The iteration of the last test that ``accuracy`` is of, else of the one that ``loss`` is of."""
        choice = self.accuracy_choice or self.loss_choice
        return None if choice is None else self.stitched.scores[choice.terms[0][0], choice.net].last_iteration

    @cached_property
    def best(self) -> tuple[float, int] | None:
        """The best test accuracy and its iteration (the first, where several are equal)."""
        choice = self.accuracy_choice
        score = None if choice is None else self.stitched.scores[choice.name, choice.net]
        return None if score is None or np.isnan(score.best) else (score.best, score.best_iteration)

    @property
    def epochs(self) -> float | None:
        """Epochs trained up to the last surviving iteration."""
        return self.stitched.epochs

    @property
    def published(self) -> tuple[str, str]:
        """Published accuracy and log-loss, as published; empty where none is known."""
        accuracy, loss = (self.header.get(f"published_{what}") for what in ("accuracy", "logloss"))
        return ("" if accuracy is None else printable(str(accuracy))), ("" if loss is None else printable(str(loss)))
