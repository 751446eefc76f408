"""Sessions in true order to the long table: rolled-back rows dropped, time and epochs summed up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import NO_TIME, Metric, Rows, Values
from caffebench.analysis.read.store import Store
from caffebench.analysis.runs.model import Session
from caffebench.analysis.stitch.clock import Points, Reckoning, Timeline
from caffebench.analysis.stitch.curves import Stitched
from caffebench.analysis.stitch.parts import Part, Stretch
from caffebench.analysis.stitch.session_rows import Piece, snapshot_times

__all__ = ["stitch"]

Floats = npt.NDArray[np.float64]


def stitch(
    name: str,
    metrics: Sequence[Metric],
    pieces: Sequence[Piece],
    sessions: Sequence[Session],
    header: Mapping[str, Any],
    train_size: int | None,
) -> tuple[Stitched, float | None]:
    """The surviving rows and the training seconds; ``sessions`` get their lost iterations and seconds."""
    timeline = Timeline()
    store = Store()
    kept: list[Part] = []
    reached: tuple[int, Session] | None = None
    total: float | None = None
    for piece, session in zip(pieces, sessions, strict=True):
        piece.reveal()
        rows = piece.rows
        if not len(rows):
            continue
        first = int(rows.iteration.min())
        start = first if session.resumed_from is None else min(session.resumed_from, first)
        if reached is not None and reached[0] > start:
            reached[1].lost_iterations += reached[0] - start
        size = session.config.batch_size
        reckoning = Reckoning(
            began=_began(piece),
            seconds_before=timeline.seconds_at(start if piece.mark("start") is not None else first),
            start=start,
            images_before=timeline.images_at(start, size, header),
            batch_size=size,
            header=header,
            train_size=train_size,
        )
        seconds = _seconds(rows, reckoning)
        known = ~np.isnan(seconds)
        session.seconds = int(rows.time[known].max() - reckoning.began) / 1e6 if known.any() else 0.0
        own = _once(rows)
        there = own & (rows.iteration == start)
        said = frozenset(zip(*(one[there].tolist() for one in (rows.kind, rows.metric, rows.net)), strict=True))
        for one in kept:
            one.until(start)
            one.replace(start, said)
        # A row at the iteration of the resume may be of a test that ended after the snapshot was written.
        least = max((one.seconds for one in kept), default=0.0)
        mine = Part(session.number, reckoning, [], least)
        mine.stretches = _stretches(piece, own, seconds, mine, store)
        kept.append(mine)
        snapshots = {at: time for at, time in snapshot_times(piece).items() if at >= start}
        timeline.follow(rows, seconds, reckoning, snapshots, _points(rows, mine))
        reached = (max(int(rows.iteration.max()), *snapshots, 0), session)
        if known.any():
            total = float(seconds[known].max())
    return Stitched(name, metrics, [one for one in kept if one.count]), total


def _began(piece: Piece) -> int:
    """When training began, as far as the log tells it; 0 where it tells no time."""
    time = piece.rows.time[piece.rows.time != NO_TIME]
    if not len(time):
        return 0
    return min([int(time[0]), *(one.time for one in piece.marks if one.kind == "start" and one.time != NO_TIME)])


def _seconds(rows: Rows, reckoning: Reckoning) -> Floats:
    """Training seconds of each row; NaN without a time."""
    known = rows.time != NO_TIME
    seconds = np.full(len(rows), np.nan)
    seconds[known] = reckoning.seconds(rows.time[known])
    return seconds


def _stretches(piece: Piece, own: npt.NDArray[np.bool_], seconds: Floats, part: Part, store: Store) -> list[Stretch]:
    """A session's own rows, and between them those that were hidden."""
    rows, found = piece.rows, list[Stretch]()
    gaps = np.flatnonzero(rows.gap >= 0)
    for low, high in pairwise([0, *(gaps + 1).tolist(), len(rows)]):
        mine = np.flatnonzero(own[low:high]) + low
        if len(mine):
            told = rows.values()[mine]
            epochs = part.reckoning.epochs(told.iteration)
            number = store.put([*vars(told).values(), np.maximum(seconds[mine], part.least), epochs])
            least, most = int(told.iteration.min()), int(told.iteration.max())
            found.append(Stretch(store, number, len(mine), least, most, tuple(told.pairs())))
        if low < high and rows.gap[high - 1] >= 0:
            one = piece.hidden[rows.gap[high - 1]]
            late = (int(rows.time[high - 1]) - one.time, float(seconds[high - 1]), float(rows.lr[high - 1]))
            found.append(Stretch(piece.store, one.number, one.count, one.first, one.last, one.pairs, late))
    return found


def _points(rows: Rows, part: Part) -> list[tuple[int, int, Callable[[], Points]]]:
    """The points of the hidden rows, for the timeline, with the iterations of the rows before and after them."""

    def look_up(one: Stretch) -> Points:
        found, seconds, _ = Part(part.session, part.reckoning, [one]).open(one)
        return found.iteration, seconds, part.reckoning.images(found.iteration)

    hidden = [one for one in part.stretches if one.hidden is not None]
    around = [(rows.iteration[gap], rows.iteration[gap + 1 : gap + 2]) for gap in np.flatnonzero(rows.gap >= 0)]
    return [
        (int(before), int(after[0]) if len(after) else one.last, partial(look_up, one))
        for one, (before, after) in zip(hidden, around, strict=True)
    ]


def _once(rows: Values) -> npt.NDArray[np.bool_]:
    """Which rows stay where one process said some twice (several GPUs): the last of each counts."""
    nets = int(rows.net.max(initial=-1)) + 2
    key = (rows.metric.astype("i4") * 8 + rows.kind) * nets + rows.net + 1
    order = np.lexsort((np.arange(len(rows)), rows.iteration, key))
    keys, iterations = key[order], rows.iteration[order]
    last = np.ones(len(rows), bool)
    last[:-1] = (keys[1:] != keys[:-1]) | (iterations[1:] != iterations[:-1])
    kept = np.empty(len(rows), bool)
    kept[order] = last
    return kept
