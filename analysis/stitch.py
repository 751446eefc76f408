"""Scans to sessions in true order, and sessions to one curve with every iteration once.

A resume from iteration R throws away what came after R: those rows are dropped, and counted as lost iterations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from caffebench.analysis.block import Mark
from caffebench.analysis.config import Config, read_config
from caffebench.analysis.lines import UNKNOWN_YEAR, moment, since_1970
from caffebench.analysis.model import Session
from caffebench.analysis.rows import LOSS, NO_TIME, Rows
from caffebench.analysis.scan import Hidden, Scan
from caffebench.analysis.store import Store

__all__ = ["Piece", "in_order", "pieces_of", "snapshot_times", "to_session"]

_SNAPSHOT = re.compile(r"_iter_(\d{1,15})\.")
_ON_REQUEST = {"SIGTERM", "SIGINT", "SIGHUP"}


@dataclass
class Piece:
    """The part of a log that one process wrote."""

    source: str
    pid: int
    rows: Rows
    marks: list[Mark]
    hidden: list[Hidden]
    store: Store
    """Where the hidden rows are; ``rows`` says after which of its own they come."""
    fresh: bool
    """It begins with the start of a process, not in the middle of its training."""
    part: int = 0
    garbled: int = 0
    """Rows left out because a flipped bit made their iteration impossible."""

    def mark(self, *kinds: str) -> Mark | None:
        """The first mark of one of these kinds."""
        return next((one for one in self.marks if one.kind in kinds), None)

    def times(self) -> npt.NDArray[np.int64]:
        """Times in it: of all marks, and of a thousand rows from the first to the last."""
        said = [one.time for one in self.marks if one.time != NO_TIME]
        rows, weight = self.rows.time, np.ones(len(self.rows), "i8")
        gaps = np.flatnonzero(self.rows.gap >= 0)
        weight[gaps] += np.array([self.hidden[gap].count for gap in self.rows.gap[gaps]], "i8")
        every = np.cumsum(weight)
        count = int(every[-1]) if len(every) else 0
        chosen = np.linspace(0, count - 1, min(1000, count)).astype("i8")
        place = np.searchsorted(every, chosen, "right")
        deep = chosen - (every - weight)[place] - 1  # how deep in the hidden rows behind a row
        times = rows[place]
        for gap in np.unique(place[deep >= 0]):
            inside = (place == gap) & (deep >= 0)
            hidden = self.hidden[self.rows.gap[gap]]
            times[inside] = self.store.get(hidden.number)[6][deep[inside]] + (rows[gap] - hidden.time)
        return np.concatenate([times[times != NO_TIME], np.array(said, dtype="i8")])

    def ends(self) -> tuple[int, int] | None:
        """The first and the last time in it; None where it tells none."""
        known = self.rows.time[self.rows.time != NO_TIME].tolist() + [
            one.time for one in self.marks if one.time != NO_TIME
        ]
        return (min(known), max(known)) if known else None

    def resumed_from(self) -> int | None:
        """The iteration that it resumed from, as the log says it."""
        for one in self.marks:
            if one.kind == "event" and one.text == "resume" and isinstance(one.content.get("iteration"), int):
                return int(one.content["iteration"])
            if one.kind == "resume" and (found := re.search(r"_iter_(\d{1,15})(?!\d)", one.text)):
                return int(found[1])
        return None


def _starts(scan: Scan) -> list[tuple[int, bool]]:
    """Offsets at which a process begins, and whether that is its very start."""
    cuts: dict[int, bool] = {}
    lead: int | None = None  # where the lines began that a process writes before its solver
    running = False  # training lines were seen since the last start
    last = 0
    for mark in scan.marks:
        shown = bool(np.searchsorted(scan.ends.at, mark.at) > np.searchsorted(scan.ends.at, last))
        running = running or shown
        last = mark.at
        if mark.kind in ("head", "created", "gpus") or (mark.kind == "event" and mark.text == "run"):
            lead = mark.at if lead is None or shown else lead
            continue
        if mark.kind == "solver":
            cuts[mark.at if lead is None or shown else lead] = True
            running = False
        elif mark.kind in ("resume", "start") and running:
            cuts[mark.at] = True
            running = False
        lead = None
    return sorted(cuts.items())


@dataclass
class _Told:
    """The columns of the train lines that tell processes apart."""

    at: npt.NDArray[np.int64]
    pid: npt.NDArray[np.int32]
    iteration: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, chosen: slice) -> _Told:
        return _Told(self.at[chosen], self.pid[chosen], self.iteration[chosen])


def _told(rows: Rows) -> _Told:
    losses = np.flatnonzero(rows.kind == LOSS)
    return _Told(rows.at[losses], rows.pid[losses], rows.iteration[losses])


def _changes(losses: _Told) -> list[int]:
    """Indexes of train lines where another process goes on: its id changes, or the counter runs back.

    One line alone is not believed: a flipped bit makes one, a process makes many.
    """
    if len(losses) < 3:
        return []
    pid, iteration = losses.pid, losses.iteration
    before, here, after = slice(0, -2), slice(1, -1), slice(2, None)
    other = (pid[here] != pid[before]) & (pid[here] == pid[after])
    back = (iteration[here] < iteration[before]) & (iteration[here] < iteration[after])
    back &= iteration[after] <= iteration[before]
    # ... 25100, 95120, 25140: the line before is the one that is wrong.
    back[1:] &= ~((iteration[:-3] < iteration[2:-1]) & (pid[1:-2] == pid[2:-1]))
    return [int(one) for one in np.flatnonzero(other | back) + 1]


def _beginning(rows: Rows, losses: _Told, index: int) -> int:
    """Offset of the first row of the process that ``losses`` at ``index`` is of: a test may come before its loss."""
    before = losses.at[index - 1] if index else -1
    low, high = np.searchsorted(rows.at, [before + 1, losses.at[index]])
    pid, iteration = rows.pid[low:high], rows.iteration[low:high]
    mine = (pid == losses.pid[index]) & (iteration <= losses.iteration[index])
    if index:
        mine &= (pid != losses.pid[index - 1]) | (iteration < losses.iteration[index - 1])
    found = np.flatnonzero(mine)
    return int(rows.at[low + found[0]] if len(found) else losses.at[index])


def pieces_of(scan: Scan, source: str, part: int = 0) -> list[Piece]:
    """Cut one log where another process begins, and join what one process wrote in several places."""
    starts = dict(_starts(scan))
    starts.setdefault(0, False)
    rows = scan.ends
    losses = _told(rows)
    edges = sorted(starts)
    for first, last in zip(edges, [*edges[1:], _END], strict=True):
        inside = losses[slice(*np.searchsorted(losses.at, [first, last]))]
        for index in _changes(inside):
            starts[_beginning(rows, inside, index)] = False
        opening = [one for one in scan.marks if first <= one.at < last and one.kind in ("solver", "resume")]
        if len(inside) and opening and opening[-1].pid and inside.pid[0] not in (0, opening[-1].pid):
            starts.setdefault(_beginning(rows, inside, 0), False)
    del losses  # a large log has millions
    edges = sorted(starts)
    pieces: list[Piece] = []
    for first, last in zip(edges, [*edges[1:], _END], strict=True):
        mine = rows[slice(*np.searchsorted(rows.at, [first, last]))]
        marks = [one for one in scan.marks if first <= one.at < last]
        if not len(mine) and not marks:
            continue
        piece = Piece(source, _most(mine.pid, marks), mine, marks, scan.hidden, scan.store, starts[first], part)
        earlier = None if piece.fresh else next((one for one in reversed(pieces) if one.pid == piece.pid > 0), None)
        if earlier is not None and _continues(earlier, piece):
            earlier.rows = Rows.joined([earlier.rows, piece.rows])
            earlier.marks = earlier.marks + piece.marks
        else:
            pieces.append(piece)
    for piece in pieces:
        _leave_out_garbled(piece)
        _mend_times(piece)
        _tell_year(piece)
    return pieces


def _leave_out_garbled(piece: Piece) -> None:
    """Leave out the single line whose iteration does not fit between its neighbours, and what belongs to it."""
    iteration = piece.rows.iteration[piece.rows.kind == LOSS]
    if len(iteration) < 3:
        return
    before, here, after = iteration[:-2], iteration[1:-1], iteration[2:]
    wrong = np.flatnonzero(((here < before) | (here > after)) & (before < after)) + 1
    if not len(wrong):
        return
    losses = _told(piece.rows)
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
        _into_year(piece, [int(created.text)], 0)
    elif aborted is not None and int(aborted.text) < 1 << 32:
        # Seconds since 1970 in Greenwich: at New Year the local year may be another one.
        year = moment(int(aborted.text) * 10**6).year
        _into_year(piece, [year - 1, year, year + 1], int(aborted.text) * 10**6)


def _into_year(piece: Piece, years: Sequence[int], near: int) -> None:
    """Move times without a year into the one of ``years`` in which they end nearest to ``near``."""
    times = piece.times()
    if not len(times) or moment(int(times.min())).year != UNKNOWN_YEAR:
        return
    late = int(times.min()) >= _MARCH
    shifts = [
        since_1970(datetime(year, 1, 1)) - since_1970(datetime(UNKNOWN_YEAR, 1, 1)) - (_DAY if late and year % 4 else 0)
        for year in years
    ]
    _shift(piece, min(shifts, key=lambda shift: abs(int(times.max()) + shift - near)))


def _most(pids: npt.NDArray[np.int32], marks: Sequence[Mark]) -> int:
    """The process that wrote most of these lines; 0 where none says it."""
    if len(pids) and (pids[0] == pids).all():
        return int(pids[0])
    values, counts = np.unique(pids if len(pids) else [one.pid for one in marks if one.pid] or [0], return_counts=True)
    return int(values[counts.argmax()])


_END = 2**62
_DAY = 86_400 * 10**6  # microseconds
_YEAR = 366 * _DAY  # a year that is not told counts as a leap year
_MARCH = since_1970(datetime(UNKNOWN_YEAR, 3, 1))


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
    turns = np.flatnonzero(np.diff(np.where(np.pad(garbled, 1), np.roll(inner, 1), inner)) < -_YEAR // 2) + 1
    # The untold year had no February 29 if the log goes from the 28th on in March, a day too late.
    leaps = np.flatnonzero((inner[:-1] < _MARCH - _DAY) & (inner[1:] >= _MARCH) & (np.diff(inner) >= _DAY)) + 1
    if not garbled.any() and not len(turns) and not len(leaps):
        return
    inner[1:-1][garbled] = before[garbled]
    for turn in turns:
        inner[turn:] += _YEAR
    for leap in leaps:
        inner[leap:] -= _DAY
    times[order] = inner
    for mark, time in zip(marks, times.tolist(), strict=False):
        mark.time = time
    piece.rows.time = piece.rows.time.copy()
    piece.rows.time[told] = times[len(marks) :]


def _continues(earlier: Piece, later: Piece) -> bool:
    return not len(earlier.rows) or not len(later.rows) or bool(earlier.rows.iteration[-1] <= later.rows.iteration[0])


def in_order(pieces: Sequence[Piece]) -> list[Piece]:
    """True order: of the part files; within a file, of the clock.

    A log without years says only month and day. Its sessions lie on a circle; the longest stretch without any is
    the one before the first session, so that a turn of the year and pieces in the wrong order are told apart.
    """
    ordered: list[Piece] = []
    for part in sorted({one.part for one in pieces}):
        mine = [one for one in pieces if one.part == part]
        times = [one.times() for one in mine]
        if len(mine) < 2 or any(not len(one) for one in times):
            ordered += mine
            continue
        known = [int(np.median(one)) for one in times if moment(int(one.min())).year > UNKNOWN_YEAR + 1]
        if known and len(known) < len(mine):
            year = moment(known[0]).year
            for piece in mine:
                _into_year(piece, [year - 1, year, year + 1], known[0])
            times = [one.times() for one in mine]
        middle = [int(np.median(one)) for one in times]
        order = sorted(range(len(mine)), key=lambda index: middle[index])
        if all(moment(one).year <= UNKNOWN_YEAR + 1 for one in middle):
            order.sort(key=lambda index: middle[index] % _YEAR)
            gaps = [
                (middle[order[(k + 1) % len(order)]] - middle[index]) % _YEAR or _YEAR for k, index in enumerate(order)
            ]
            cut = max(range(len(gaps)), key=lambda k: (gaps[k], k)) + 1
            order = order[cut:] + order[:cut]
            for before, here in pairwise(order):
                if middle[here] < middle[before]:
                    middle[here] += _YEAR
                    _shift(mine[here], _YEAR)
        ordered += [mine[index] for index in order]
    return ordered


def _shift(piece: Piece, time: int) -> None:
    piece.rows.time = np.where(piece.rows.time == NO_TIME, NO_TIME, piece.rows.time + time)
    for mark in piece.marks:
        if mark.time != NO_TIME:
            mark.time += time


def _ending(piece: Piece) -> tuple[str, str]:
    """How a session ended, and the log's own words for it."""
    ended, reason = "cut", ""
    for mark in piece.marks:
        if mark.kind == "event" and mark.text == "end":
            status = str(mark.content.get("status"))
            if status in {"done", "stopped", "crashed", "not_converged"}:
                return status, str(mark.content.get("reason") or "")
        elif mark.kind in ("fatal", "broken") and ended != "crashed":
            ended, reason = "crashed", mark.text
        elif mark.kind == "signal" and ended == "cut":
            ended = "stopped" if mark.text in _ON_REQUEST else "crashed"
            reason = f"{mark.text} received"
        elif mark.kind == "stopped" and ended == "cut":
            ended, reason = "stopped", "stopped on request"
        elif mark.kind == "done" and ended == "cut":
            ended, reason = "done", "Optimization Done"
    return ended, reason


def _config(piece: Piece) -> Config:
    solver = piece.mark("solver") or piece.mark("head")
    net = piece.mark("net")
    gpus = piece.mark("gpus")
    count = len(gpus.text.split(",")) if gpus is not None else 1
    wiring = net.content["wiring"] if net is not None else b""
    return read_config(solver.text if solver else "", net.text if net else "", wiring, count)


def to_session(piece: Piece, number: int) -> Session:
    """Describe one piece."""
    ended, reason = _ending(piece)
    losses = _told(piece.rows)
    seen = piece.rows.iteration
    ends = piece.ends()
    weights = piece.mark("finetune")
    resume = next((one for one in piece.marks if one.kind == "event" and one.text == "resume"), None)
    said = resume.content if resume is not None else {}
    return Session(
        number=number,
        source=piece.source,
        pid=piece.pid,
        began=moment(ends[0]) if ends else None,
        finished=moment(ends[1]) if ends else None,
        resumed_from=piece.resumed_from(),
        weights=weights.text if weights else None,
        first_iteration=int(seen[0]) if len(seen) else None,
        last_iteration=int((losses.iteration if len(losses) else seen).max()) if len(seen) else None,
        ended=ended,
        reason=reason,
        config=_config(piece),
        restored=tuple(map(str, said.get("restored") or ())),
        not_restored=tuple(map(str, said.get("not_restored") or ())),
    )


def snapshot_times(piece: Piece) -> dict[int, int]:
    """Iteration -> time of the snapshots that were written."""
    found = ((_SNAPSHOT.search(one.text), one.time) for one in piece.marks if one.kind == "snapshot")
    return {int(match[1]): time for match, time in found if match and time != NO_TIME}
