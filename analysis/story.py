"""Runs on the terminal: one line each, and the story of each run's sessions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from caffebench.analysis.lines import UNKNOWN_YEAR
from caffebench.analysis.model import Run, Session
from caffebench.analysis.runs import read_runs

__all__ = ["clock", "overview", "read_with_progress", "story"]


def clock(seconds: float | None) -> str:
    """``12:32:51``, or ``-`` for None."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def read_with_progress(paths: Sequence[Path], train_size: int | None) -> list[Run]:
    """Read runs with as many processes as there are processors, and show on a terminal how far it is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading logs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        return read_runs(
            paths,
            train_size,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            workers=os.cpu_count() or 1,
            unreadable=lambda why: bar.console.print(f"left out: {why}", markup=False, highlight=False),
        )


def overview(runs: Sequence[Run]) -> None:
    """Print a line a run."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 250  # a file or a pipe has no width: names are not to be cut for it
    table = Table(box=None, pad_edge=False)
    left = {"run", "status", "why"}
    for title in ("run", "status", "iteration", "accuracy", "loss", "sessions", "crashes", "lost", "time", "why"):
        wrap = title in ("run", "why")
        table.add_column(title, justify="left" if title in left else "right", no_wrap=not wrap, overflow="fold")
    for run in runs:
        table.add_row(
            run.name,
            run.status,
            "-" if run.iteration is None else f"{run.iteration:,}",
            "-" if run.accuracy is None else f"{run.accuracy:g}",
            "-" if run.loss is None else f"{run.loss:g}",
            str(len(run.sessions)),
            str(run.crashes),
            f"{run.lost_iterations:,}",
            clock(run.seconds),
            "" if run.status == "done" else run.reason,
        )
    console.print(table)


def _when(moment: datetime | None) -> str:
    if moment is None:
        return "no time"
    return f"{moment:%m-%d %H:%M:%S}" if moment.year <= UNKNOWN_YEAR + 1 else f"{moment:%Y-%m-%d %H:%M:%S}"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _began(session: Session) -> str:
    if session.resumed_from is not None:
        return f"resumed at {session.resumed_from:,}"
    return f"began with {session.weights}" if session.weights else "began anew"


def _ended(session: Session, last: bool) -> str:
    reason = " ".join(session.reason.split())
    if session.ended == "cut":
        word = "the log ends without a word"
        return word if last else "died without a word" if session.lost_iterations or not session.trained else word
    word = session.ended.replace("_", " ")
    return f"{word}: {reason}" if reason and reason != "Optimization Done" else word


def story(run: Run) -> Iterator[str]:
    """The lines of a run's story: each session, when, from where to where, how it ended and what was lost."""
    yield f"{run.name}: {run.status}" + (f", {run.reason}" if run.reason else "")
    for session in run.sessions:
        seen = (
            f"{_count(session.first_iteration)} to {_count(session.last_iteration)}"
            if session.trained
            else "no iteration"
        )
        lost = f", {session.lost_iterations:,} iterations lost" if session.lost_iterations else ""
        ended = _ended(session, session is run.sessions[-1])
        yield (
            f"  {session.number}. {_when(session.began)} to {_when(session.finished)} ({session.source}, process"
            f" {session.pid}): {_began(session)}, {seen}, {clock(session.seconds)} of training; {ended}{lost}"
        )
        if session.not_restored:
            yield f"     not restored: {'; '.join(session.not_restored)}"
    yield (
        f"  training {clock(run.seconds)}, lost {clock(run.lost_seconds)}, wall clock {clock(run.wall_seconds)};"
        f" {run.crashes} crashes, {run.lost_iterations:,} iterations lost, {run.bad_lines:,} bad lines skipped"
    )
