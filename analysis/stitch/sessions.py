"""Scans to the pieces that single processes wrote, in true order.

A resume from iteration R throws away what came after R: ``curves`` drops those rows, and counts them as lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from caffebench.analysis.read.block import Mark
from caffebench.analysis.read.columns import Rows
from caffebench.analysis.read.lines import UNKNOWN_YEAR, moment
from caffebench.analysis.read.parser import Hidden, Scan
from caffebench.analysis.stitch.repair import YEAR, into_year, mend
from caffebench.analysis.stitch.session_rows import Piece, Told, told

__all__ = ["in_order", "pieces_of"]


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


def _changes(losses: Told) -> list[int]:
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


def _beginning(rows: Rows, losses: Told, index: int) -> int:
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
    losses = told(rows)
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
        piece = Piece(
            source, _most(mine, marks, scan.hidden), mine, marks, scan.hidden, scan.store, starts[first], part
        )
        earlier = None if piece.fresh else next((one for one in reversed(pieces) if one.pid == piece.pid > 0), None)
        if earlier is not None and _continues(earlier, piece):
            earlier.rows = Rows.joined([earlier.rows, piece.rows])
            earlier.marks = earlier.marks + piece.marks
        else:
            pieces.append(piece)
    for piece in pieces:
        mend(piece)
    return pieces


def _most(rows: Rows, marks: Sequence[Mark], hidden: Sequence[Hidden]) -> int:
    """The process that wrote most of these lines; 0 where none says it."""
    pids, gaps = rows.pid, rows.gap[rows.gap >= 0]
    if len(pids) and (pids[0] == pids).all():
        return int(pids[0])
    values, place = np.unique(pids if len(pids) else [one.pid for one in marks if one.pid] or [0], return_inverse=True)
    counts = np.bincount(place)
    np.add.at(counts, place[np.flatnonzero(rows.gap >= 0)], [hidden[gap].count for gap in gaps])
    return int(values[counts.argmax()])


_END = 2**62


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
                into_year(piece, [year - 1, year, year + 1], known[0])
            times = [one.times() for one in mine]
        middle = [int(np.median(one)) for one in times]
        order = sorted(range(len(mine)), key=lambda index: middle[index])
        if all(moment(one).year <= UNKNOWN_YEAR + 1 for one in middle):
            order.sort(key=lambda index: middle[index] % YEAR)
            gaps = [
                (middle[order[(k + 1) % len(order)]] - middle[index]) % YEAR or YEAR for k, index in enumerate(order)
            ]
            cut = max(range(len(gaps)), key=lambda k: (gaps[k], k)) + 1
            order = order[cut:] + order[:cut]
            for before, here in pairwise(order):
                if middle[here] < middle[before]:
                    middle[here] += YEAR
                    mine[here].shift(YEAR)
        ordered += [mine[index] for index in order]
    return ordered
