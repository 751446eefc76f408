"""Single lines that flipped bits garbled, and times that lack their year: put right in place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import LOSS, NO_TIME
from caffebench.analysis.read.lines import UNKNOWN_YEAR, moment, since_1970
from caffebench.analysis.stitch.session_rows import Piece, told

__all__ = ["YEAR", "into_year", "mend"]

_DAY = 86_400 * 10**6  # microseconds
YEAR = 366 * _DAY  # a year that is not told counts as a leap year
_MARCH = since_1970(datetime(UNKNOWN_YEAR, 3, 1))


def mend(piece: Piece) -> None:
    """Leave out what is garbled, carry times over New Year, and give them their year where the log tells it."""
    _leave_out_garbled(piece)
    _mend_times(piece)
    _tell_year(piece)


def _leave_out_garbled(piece: Piece) -> None:
    """Leave out the single line whose iteration does not fit between its neighbours, and what belongs to it."""
    iteration = piece.rows.iteration[piece.rows.kind == LOSS]
    if len(iteration) < 3:
        return
    before, here, after = iteration[:-2], iteration[1:-1], iteration[2:]
    wrong = np.flatnonzero(((here < before) | (here > after)) & (before < after)) + 1
    if not len(wrong):
        return
    losses = told(piece.rows)
    keep = np.ones(len(piece.rows), bool)
    for index in wrong:
        low, high = np.searchsorted(piece.rows.at, [losses.at[index], losses.at[index + 1]])
        keep[low:high] &= piece.rows.iteration[low:high] != iteration[index]
    piece.garbled = int((~keep).sum())
    piece.rows = piece.rows[keep]


def _tell_year(piece: Piece) -> None:
    """Put times without a year into the year that the log tells elsewhere: in its first line, or where it aborted."""
    created, aborted = piece.mark("created"), piece.mark("aborted")
    if created is not None and 1970 <= int(created.text) < 2200:
        into_year(piece, [int(created.text)], 0)
    elif aborted is not None and int(aborted.text) < 1 << 32:
        # Seconds since 1970 in Greenwich: at New Year the local year may be another one.
        year = moment(int(aborted.text) * 10**6).year
        into_year(piece, [year - 1, year, year + 1], int(aborted.text) * 10**6)


def into_year(piece: Piece, years: Sequence[int], near: int) -> None:
    """Move times without a year into the one of ``years`` in which they end nearest to ``near``."""
    times = piece.times()
    if not len(times) or moment(int(times.min())).year != UNKNOWN_YEAR:
        return
    late = int(times.min()) >= _MARCH
    shifts = [
        since_1970(datetime(year, 1, 1)) - since_1970(datetime(UNKNOWN_YEAR, 1, 1)) - (_DAY if late and year % 4 else 0)
        for year in years
    ]
    piece.shift(min(shifts, key=lambda shift: abs(int(times.max()) + shift - near)))


def _plain_times(times: npt.NDArray[np.int64], marks: Sequence[int]) -> bool:
    """Times only rise, in no danger of a turn of the year or of a leap day: the case of most logs."""
    if not len(times) or times.min() == NO_TIME or not (times[1:] >= times[:-1]).all():
        return False
    first, last = int(times[0]), int(times[-1])
    near = all(first - _DAY <= one <= last + _DAY for one in marks)
    return near and not first < _MARCH - _DAY < _MARCH <= last


def _mend_times(piece: Piece) -> None:
    """Carry times without a year over New Year, and put right the one line whose time a flipped bit garbled."""
    marks = [one for one in piece.marks if one.time != NO_TIME]
    if _plain_times(piece.rows.time, [one.time for one in marks]):
        return
    told = np.flatnonzero(piece.rows.time != NO_TIME)
    places = np.concatenate([np.array([one.at for one in marks], "i8"), piece.rows.at[told]])
    times = np.concatenate([np.array([one.time for one in marks], "i8"), piece.rows.time[told]])
    if len(times) < 3:
        return
    order = np.argsort(places, kind="stable")
    inner = times[order]
    before, here, after = inner[:-2], inner[1:-1].copy(), inner[2:]
    garbled = ((here > after) | (here < before)) & (before <= after)
    turns = np.flatnonzero(np.diff(np.where(np.pad(garbled, 1), np.roll(inner, 1), inner)) < -YEAR // 2) + 1
    # The untold year had no February 29 if the log goes from the 28th on in March, a day too late.
    leaps = np.flatnonzero((inner[:-1] < _MARCH - _DAY) & (inner[1:] >= _MARCH) & (np.diff(inner) >= _DAY)) + 1
    if not garbled.any() and not len(turns) and not len(leaps):
        return
    inner[1:-1][garbled] = before[garbled]
    for turn in turns:
        inner[turn:] += YEAR
    for leap in leaps:
        inner[leap:] -= _DAY
    times[order] = inner
    for mark, time in zip(marks, times.tolist(), strict=False):
        mark.time = time
    piece.rows.time = piece.rows.time.copy()
    piece.rows.time[told] = times[len(marks) :]
