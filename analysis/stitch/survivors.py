"""Sessions in true order to the rows that survive: rolled-back ones dropped, time and epochs summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import NO_TIME, CurveRows, Metric, ParsedRows
from caffebench.analysis.stitch.clock import Phases, SessionClock, Trace, between, images_between
from caffebench.analysis.stitch.session_rows import SessionRows, snapshots

__all__ = ["Joined", "Survivors", "join_sessions"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
ALL = 2**62


class Survivors(NamedTuple):
    """The rows of one session that survive."""

    session: int
    """Its number, from 1."""
    rows: CurveRows
    seconds: Floats
    """Training seconds (n) up to each row, NaN without a time."""
    clock: SessionClock


class Joined(NamedTuple):
    """What becomes of the sessions of a run."""

    parts: tuple[Survivors, ...]
    seconds: float | None
    """Training seconds that led to the last surviving row; None without times."""
    lost_iterations: tuple[int, ...]
    """Of each session, those that a later one threw away."""
    session_seconds: tuple[float, ...]
    """Of each session, training seconds, lost ones too."""


class _Limit(NamedTuple):
    """Where later sessions take over from one."""

    iteration: int = ALL
    """The last iteration that survives; -1 for none."""
    again: frozenset[tuple[int, str, int]] = frozenset()
    """Kind, name and net of what they say at that iteration, too."""


def join_sessions(
    sessions: Sequence[SessionRows],
    batch_sizes: Sequence[int | None],
    phases: Phases,
    train_size: int | None,
    metrics: Sequence[Metric],
) -> Joined:
    """Join ``sessions``, given in true order, to the rows that survive. Time is linear in their rows.

    ``batch_sizes`` has one for each session: images of an iteration, None if not known; ``phases`` of the run
    overrule them. ``train_size`` is the number of images of an epoch, None if not known; ``metrics`` are those of the
    rows, by their ids.
    """
    rows = [_last_of_duplicates(one.rows) for one in sessions]
    starts = [_start(session, own) for session, own in zip(sessions, rows, strict=True)]
    limits = _limits(sessions, rows, starts, metrics)
    lost, spent = [0] * len(sessions), [0.0] * len(sessions)
    parts: list[Survivors] = []
    total: float | None = None
    reached: tuple[int, int] | None = None
    traces: list[Trace] = []
    highest = 0.0
    part: Survivors | None = None
    for number, (session, own, start, limit) in enumerate(zip(sessions, rows, starts, limits, strict=True)):
        if not len(own):
            continue
        is_rest = number > 0 and _is_rest(session, sessions[number - 1])
        if reached is not None and reached[0] > start and not is_rest:
            lost[reached[1]] += reached[0] - start
        rolled_back: Trace | None = None
        while traces and (session.anew or traces[-1].iterations[0] >= start):
            rolled_back = traces.pop()
        first = own.facts.first
        seconds_before, images_before = 0.0, _images_at_start(traces, rolled_back, start, batch_sizes[number], phases)
        if not session.anew:
            seconds_before = between(traces, rolled_back, start if session.event("start") is not None else first)[0]
        began = since = _began(session)
        if part is not None and is_rest:  # its clock has run on
            began, seconds_before = part.clock.began, part.clock.seconds_before
            since = rows[number - 1].facts.ended
        clock = SessionClock(
            began=began,
            seconds_before=seconds_before,
            # A row at the iteration of the resume may be of a test that ended after the snapshot was written.
            least=highest,
            start=start,
            images_before=images_before,
            batch_size=batch_sizes[number],
            phases=phases,
            train_size=train_size,
        )
        seconds = clock.seconds(own)
        if own.facts.ended != NO_TIME:
            spent[number] = (own.facts.ended - since) / 1e6
            total = float(seconds[-1] if own.facts.timed else np.nanmax(seconds))
        part = _surviving(number + 1, own, seconds, clock, limit, metrics)
        if len(part.rows):
            parts.append(part)
        if len(part.rows) and number + 1 < len(sessions):
            highest = max(highest, float(np.max(part.seconds, initial=0.0, where=~np.isnan(part.seconds))))
        written = {at: time for at, time in snapshots(session).items() if at >= start}
        reached = (max(own.facts.last, *written, 0), number)
        if number + 1 < len(sessions) and not sessions[number + 1].anew:
            if traces:
                traces[-1] = traces[-1].until(start)
                if not len(traces[-1].iterations):
                    traces.pop()
            traces.append(_trace(own, seconds, clock, written))
    return Joined(tuple(parts), total, tuple(lost), tuple(spent))


def _last_of_duplicates(rows: ParsedRows) -> ParsedRows:
    """Without what one process said before of the same iteration (several GPUs do): the last of each counts."""
    if rows.facts.each_once:
        return rows
    nets = int(rows.net.max(initial=-1)) + 2
    key = (rows.metric.astype("i8") * 8 + rows.kind) * nets + rows.net + 1
    order = np.lexsort((np.arange(len(rows)), rows.iteration, key))
    keys, iterations = key[order], rows.iteration[order]
    last = np.ones(len(rows), bool)
    last[:-1] = (keys[1:] != keys[:-1]) | (iterations[1:] != iterations[:-1])
    kept = np.empty(len(rows), bool)
    kept[order] = last
    return rows[kept]


def _start(session: SessionRows, rows: ParsedRows) -> int:
    if not len(rows):
        return ALL
    first = 0 if session.anew else rows.facts.first
    return first if session.resumed_from is None else min(session.resumed_from, first)


def _limits(
    sessions: Sequence[SessionRows], rows: Sequence[ParsedRows], starts: Sequence[int], metrics: Sequence[Metric]
) -> list[_Limit]:
    """Of each session, where later ones take over; found from the last one to the first."""
    limits = [_Limit()] * len(rows)
    limit = _Limit()
    for number in range(len(rows) - 1, -1, -1):
        limits[number] = limit
        if not number or not len(rows[number]) or starts[number] > limit.iteration:
            continue
        if sessions[number].anew:
            limit = _Limit(-1)
            continue
        there_too = frozenset(_said(rows[number], np.flatnonzero(rows[number].iteration == starts[number]), metrics))
        limit = _Limit(starts[number], there_too | limit.again if starts[number] == limit.iteration else there_too)
    return limits


def _said(rows: ParsedRows, places: Ints, metrics: Sequence[Metric]) -> list[tuple[int, str, int]]:
    """Kind, name and net of the rows at ``places``: a net that was changed in between numbers its outputs anew."""
    return [(int(rows.kind[at]), metrics[rows.metric[at]].name, int(rows.net[at])) for at in places]


def _surviving(
    number: int, rows: ParsedRows, seconds: Floats, clock: SessionClock, limit: _Limit, metrics: Sequence[Metric]
) -> Survivors:
    kept = CurveRows(*(getattr(rows, name) for name in CurveRows.names))
    if limit.iteration == ALL or rows.facts.last < limit.iteration:
        return Survivors(number, kept, seconds, clock)
    keep = rows.iteration <= limit.iteration
    there = np.flatnonzero(rows.iteration == limit.iteration)
    keep[there] = [one not in limit.again for one in _said(rows, there, metrics)]
    return Survivors(number, kept[keep], seconds[keep], clock)


def _is_rest(session: SessionRows, before: SessionRows) -> bool:
    """Whether ``session`` is what one process wrote on, in another file, which may begin where the one before ends."""
    here, there = session.rows.facts, before.rows.facts
    if session.fresh or session.resumed_from is not None or not session.pid or there.ended == NO_TIME:
        return False
    return session.pid == before.pid and (here.first >= there.last or here.began <= there.ended)


def _began(session: SessionRows) -> int:
    """When training began, as far as the log tells it; 0 without times."""
    if session.rows.facts.ended == NO_TIME:
        return 0
    time = session.rows.time
    first = time[0] if session.rows.facts.timed else time[time != NO_TIME][0]
    return min([int(first), *(one.time for one in session.events if one.kind == "start" and one.time != NO_TIME)])


def _images_at_start(
    traces: list[Trace], rolled_back: Trace | None, start: int, batch_size: int | None, phases: Phases
) -> float:
    """Images seen up to ``start``; what a log lacks is taken to have been trained with ``batch_size``."""
    top = rolled_back if rolled_back is not None else traces[-1] if traces else None
    last = int(top.iterations[-1]) if top is not None else 0
    if start > last:
        seen = float(top.images[-1]) if top is not None else 0.0
        return seen + float(images_between(batch_size, phases, np.array([start]), last)[0])
    return between(traces, rolled_back, start)[1] if top is not None else 0.0


def _trace(rows: ParsedRows, seconds: Floats, clock: SessionClock, written: Mapping[int, int]) -> Trace:
    """The points of a session: its rows, and its snapshots (iteration -> time)."""
    known = np.flatnonzero(~np.isnan(seconds))
    usable = {at: time for at, time in written.items() if time != NO_TIME} if len(known) else {}
    there = np.array(list(usable), "i8")
    moments = np.array(list(usable.values()), "f8")
    if len(known):
        first = known[0]
        moments = np.maximum((moments - float(rows.time[first])) / 1e6 + float(seconds[first]), 0.0)
    iterations = np.concatenate([rows.iteration, there])
    # At one iteration the snapshot counts: it comes last, and the order is stable.
    order = np.argsort(iterations, kind="stable")
    along = np.concatenate([seconds, moments])[order]
    if len(known) < len(seconds):  # rows without a time are as late as the one before
        along = np.maximum(np.maximum.accumulate(np.where(np.isnan(along), -np.inf, along)), 0.0)
    return Trace(iterations[order], along, clock.images(iterations[order]))
