"""The sessions of a run in words: when each began, from where to where it went, how it ended, what was lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from caffebench.analysis.output.table.figures import clock
from caffebench.analysis.read.lines import UNKNOWN_YEAR
from caffebench.analysis.runs.model import Run, Session

__all__ = ["session_report"]


def _when(moment: datetime | None) -> str:
    if moment is None:
        return "no time"
    return f"{moment:%m-%d %H:%M:%S}" if moment.year <= UNKNOWN_YEAR + 1 else f"{moment:%Y-%m-%d %H:%M:%S}"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _began(session: Session) -> str:
    if session.resumed_from is not None:
        return f"resumed at {session.resumed_from:,}"
    if session.headless:
        return "its beginning is missing"
    first = session.first_iteration or 0
    if first > (session.config.display or 1000):  # before mid 2014 iteration 0 was not shown
        return f"began at {first:,}"  # pycaffe restores without a word
    return f"began with {session.weights}" if session.weights else "began anew"


def _ended(session: Session, died: bool) -> str:
    reason = " ".join(session.reason.split())
    if session.ended == "cut":
        return "died without a word" if died else "the log ends without a word"
    word = session.ended.replace("_", " ")
    return f"{word}: {reason}" if reason and reason != "Optimization Done" else word


def session_report(run: Run) -> Iterator[str]:
    """The lines of the report on ``run``: its status, each session in true order, and the sums.

    Times are local ones of the logs, without a year where they tell none; durations are hours:minutes:seconds.
    """
    yield f"{run.name}: {run.status}" + (f", {run.reason}" if run.reason else "")
    for session in run.sessions:
        seen = (
            f"{_count(session.first_iteration)} to {_count(session.last_iteration)}"
            if session.trained
            else "no iteration"
        )
        lost = f", {session.lost_iterations:,} iterations lost" if session.lost_iterations else ""
        ended = _ended(session, run.died_silently(session))
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
