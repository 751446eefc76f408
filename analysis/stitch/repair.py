"""Single lines that flipped bits garbled, times that lack their year, and clocks that fall back: put right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import LOSS, NO_TIME, RowFacts
from caffebench.analysis.read.lines import UNKNOWN_YEAR, since_1970, to_datetime
from caffebench.analysis.stitch.session_rows import SessionRows

__all__ = ["YEAR", "into_year", "repaired", "shifted"]

_DAY = 86_400 * 10**6  # microseconds
YEAR = 366 * _DAY  # a year that is not told counts as a leap year
_MARCH = since_1970(datetime(UNKNOWN_YEAR, 3, 1))
_FALL = 2 * 10**6  # microseconds that a clock must fall back to be called wrong: threads print out of turn
Times = npt.NDArray[np.int64]


def repaired(session: SessionRows) -> SessionRows:
    """``session`` without garbled lines, with times that rise over New Year, in their year where the log tells it."""
    return _in_told_year(_with_true_times(_without_garbled(session)))


def shifted(session: SessionRows, time: int) -> SessionRows:
    """``session`` with all its times ``time`` microseconds later."""
    times = np.where(session.rows.time == NO_TIME, NO_TIME, session.rows.time + time)
    events = tuple(one if one.time == NO_TIME else one._replace(time=one.time + time) for one in session.events)
    return replace(session, rows=replace(session.rows, time=times), events=events)


def _without_garbled(session: SessionRows) -> SessionRows:
    """Leave out the single line whose iteration does not fit between its neighbours, and what belongs to it."""
    if session.rows.facts.losses < 3 or session.rows.facts.losses_rise:
        return session
    iteration = session.rows.iteration[session.rows.kind == LOSS]
    before, here, after = iteration[:-2], iteration[1:-1], iteration[2:]
    wrong = np.flatnonzero(((here < before) | (here > after)) & (before < after)) + 1
    if not len(wrong):
        return session
    losses = session.rows.losses
    keep = np.ones(len(session.rows), bool)
    for index in wrong:
        low, high = np.searchsorted(session.rows.byte_offset, losses.byte_offset[index : index + 2])
        keep[low:high] &= session.rows.iteration[low:high] != iteration[index]
    return replace(session, rows=session.rows[keep], garbled=int((~keep).sum()))


def _in_told_year(session: SessionRows) -> SessionRows:
    """Put times without a year into the year that the log tells elsewhere: in its first line, or where it aborted."""
    created, aborted = session.event("created"), session.event("aborted")
    if created is not None and 1970 <= int(created.text) < 2200:
        return into_year(session, [int(created.text)], 0)
    if aborted is not None and int(aborted.text) < 1 << 32:
        # Seconds since 1970 in Greenwich: at New Year the local year may be another one.
        year = to_datetime(int(aborted.text) * 10**6).year
        return into_year(session, [year - 1, year, year + 1], int(aborted.text) * 10**6)
    return session


def into_year(session: SessionRows, years: Sequence[int], near: int) -> SessionRows:
    """``session`` with times without a year moved into the one of ``years`` in which they end nearest to ``near``.

    ``near`` is in microseconds since 1970. Times that have their year stay.
    """
    times = session.times()
    years = [year for year in years if 1 <= year <= 9999]
    if not len(times) or not years or to_datetime(int(times.min())).year != UNKNOWN_YEAR:
        return session
    late = int(times.min()) >= _MARCH
    shifts = [
        since_1970(datetime(year, 1, 1)) - since_1970(datetime(UNKNOWN_YEAR, 1, 1)) - (_DAY if late and year % 4 else 0)
        for year in years
    ]
    return shifted(session, min(shifts, key=lambda shift: abs(int(times.max()) + shift - near)))


def _rise(facts: RowFacts, events: Sequence[int]) -> bool:
    """Times only rise, in no danger of a turn of the year or of a leap day: the case of most logs."""
    if not facts.times_rise or facts.began == NO_TIME:
        return False
    first, last = facts.began, facts.ended
    near = all(first - _DAY <= one <= last + _DAY for one in events)
    return near and not first < _MARCH - _DAY < _MARCH <= last


def _with_true_times(session: SessionRows) -> SessionRows:
    """Carry times without a year over New Year, put right the one line whose time a flipped bit garbled, and
    continue where a clock falls back."""
    rows = session.rows
    events = [one for one in session.events if one.time != NO_TIME]
    if _rise(rows.facts, [one.time for one in events]):
        return session
    known = np.flatnonzero(rows.time != NO_TIME)
    places = np.concatenate([np.array([one.byte_offset for one in events], "i8"), rows.byte_offset[known]])
    times = np.concatenate([np.array([one.time for one in events], "i8"), rows.time[known]])
    if len(times) < 3:
        return session
    order = np.argsort(places, kind="stable")
    inner = times[order]
    before, here, after = inner[:-2], inner[1:-1].copy(), inner[2:]
    garbled = ((here > after) | (here < before)) & (before <= after)
    turns = np.flatnonzero(np.diff(np.where(np.pad(garbled, 1), np.roll(inner, 1), inner)) < -YEAR // 2) + 1
    # The untold year had no February 29 if the log goes from the 28th on in March, a day too late.
    leaps = np.flatnonzero((inner[:-1] < _MARCH - _DAY) & (inner[1:] >= _MARCH) & (np.diff(inner) >= _DAY)) + 1
    inner[1:-1][garbled] = before[garbled]
    for turn in turns:
        inner[turn:] += YEAR
    for leap in leaps:
        inner[leap:] -= _DAY
    _let_rise(session, places[order], inner)
    times[order] = inner
    moved = dict(zip(map(id, events), times.tolist(), strict=False))
    fixed = rows.time.copy()
    fixed[known] = times[len(events) :]
    return replace(
        session,
        rows=replace(rows, time=fixed),
        events=tuple(one._replace(time=moved[id(one)]) if id(one) in moved else one for one in session.events),
    )


def _let_rise(session: SessionRows, places: Times, times: Times) -> None:
    """Let ``times`` (n, in the order of the log) continue where the clock of one process falls back, in place.

    The time since the line before is then what Caffe itself measured (``(N iter/s, S s/100 iters)``), else what the
    iterations since took at the median pace of the session.
    """
    losses = session.rows.losses
    steps = np.diff(losses.iteration)
    times_then = times[np.minimum(np.searchsorted(places, losses.byte_offset), len(times) - 1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.diff(times_then) / steps
    each = each[(steps > 0) & (each > 0)]
    pace = float(np.median(each)) if len(each) else 0.0
    measured = {one.byte_offset: one.content for one in session.events if one.kind == "pace"}
    for fall in np.flatnonzero(np.diff(times) < -_FALL) + 1:
        at = int(np.searchsorted(losses.byte_offset, places[fall]))
        if not 0 < at < len(losses) or losses.pid[at] != losses.pid[at - 1]:
            continue
        paced = measured.get(int(losses.byte_offset[at]))
        since = int(losses.iteration[at] - losses.iteration[at - 1])
        took = paced["seconds"] * 1e6 * since / paced["iterations"] if paced and paced["iterations"] else pace * since
        shown, there = (int(np.searchsorted(places, losses.byte_offset[one])) for one in (at - 1, at))
        if there >= len(times):
            continue
        times[fall:] += max(int(times[shown] + took) - int(times[there]), int(times[fall - 1] - times[fall]))
