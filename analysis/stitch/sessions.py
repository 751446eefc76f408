"""Parsed logs to the sessions that single processes wrote, in true order.

A resume from iteration R throws away what came after R: ``survivors`` drops those rows, and counts them as lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np

from caffebench.analysis.read.columns import LogEvent, ParsedLog, ParsedRows
from caffebench.analysis.read.lines import UNKNOWN_YEAR, to_datetime
from caffebench.analysis.stitch.repair import YEAR, into_year, repaired, shifted
from caffebench.analysis.stitch.session_rows import SessionRows, snapshots

__all__ = ["order_sessions", "split_sessions"]

_END = 2**62
_LONGEST_PAUSE = 300 * 86_400 * 10**6  # microseconds after which nobody goes on with a training
_CLOCKS_DIFFER = 14 * 3600 * 10**6  # microseconds: clocks of two machines, one on Greenwich time, or at summer's end


def _starts(log: ParsedLog) -> list[int]:
    """Byte offsets at which a process begins."""
    cuts: list[int] = []
    lead: int | None = None  # where the lines began that a process writes before its solver
    started = False  # one of them says that training begins: of Caffe before mid 2015 before the solver, else after it
    running = False  # values were seen since the last start
    net: LogEvent | None = None  # the one that was said last
    before = 0
    places = np.searchsorted(log.rows.byte_offset, [one.byte_offset for one in log.events]).tolist()
    for event, place in zip(log.events, places, strict=True):
        shown = place > before
        before = place
        if shown and started and lead is not None:
            cuts.append(lead)
        if shown:
            running, lead, started, net = True, None, False, None
        net = event if event.kind == "net" else net
        if event.kind in ("head", "created", "gpus") or (event.kind == "event" and event.text == "run"):
            lead = event.byte_offset if lead is None else lead
        elif event.kind == "start" and (running or not cuts):
            lead, started = event.byte_offset if lead is None else lead, True
        elif event.kind == "solver":
            cuts.append(event.byte_offset if lead is None else lead)
            running, lead, started = False, None, False
        elif event.kind == "caffe_test":  # a process of its own, which says its net and no solver
            begin = (net if net is not None and net.pid == event.pid else event).byte_offset
            cuts.append(begin if lead is None else lead)
            running, lead, started = False, None, False
        elif event.kind == "resume" and running:
            cuts.append(event.byte_offset)
            running, lead, started = False, None, False
        elif event.kind not in ("start", "net", "finetune", "resume"):
            lead = lead if started else None
    if started and lead is not None:
        cuts.append(lead)
    return sorted(set(cuts))


def _changes(losses: ParsedRows, own_start: set[int]) -> list[int]:
    """Indexes of train lines where another process begins: the counter runs back; or the id changes to one that says
    a start of its own, after a long time, or the counter or the clock stands still. Else it is another thread.

    One line alone is not believed: a flipped bit makes one, a process makes many.
    """
    if len(losses) < 3:
        return []
    pid, iteration, time = losses.pid, losses.iteration, losses.time
    if (pid[1:] == pid[:-1]).all() and (iteration[1:] >= iteration[:-1]).all():
        return []
    before, here, after = slice(0, -2), slice(1, -1), slice(2, None)
    other = (pid[here] != pid[before]) & (pid[here] == pid[after])
    if other.any():
        waited = np.diff(time)[:-1]
        long = waited > 60 * 10**6 + 20 * np.median(np.abs(np.diff(time)))
        other &= np.isin(pid[here], list(own_start)) | (iteration[here] <= iteration[before]) | (waited < 0) | long
    back = (iteration[here] < iteration[before]) & (iteration[here] < iteration[after])
    back &= iteration[after] <= iteration[before]
    # ... 25100, 95120, 25140: the line before is the one that is wrong.
    back[1:] &= ~((iteration[:-3] < iteration[2:-1]) & (pid[1:-2] == pid[2:-1]))
    return [int(one) for one in np.flatnonzero(other | back) + 1]


def _beginning(rows: ParsedRows, losses: ParsedRows, index: int) -> int:
    """Offset of the first row of the process that ``losses`` at ``index`` is of: a test may come before its loss."""
    before = losses.byte_offset[index - 1] if index else -1
    low, high = np.searchsorted(rows.byte_offset, [before + 1, losses.byte_offset[index]])
    pid, iteration = rows.pid[low:high], rows.iteration[low:high]
    mine = (pid == losses.pid[index]) & (iteration <= losses.iteration[index])
    if index:
        mine &= (pid != losses.pid[index - 1]) | (iteration < losses.iteration[index - 1])
    found = np.flatnonzero(mine)
    return int(rows.byte_offset[low + found[0]] if len(found) else losses.byte_offset[index])


def split_sessions(log: ParsedLog, source: str, part: int = 0) -> list[SessionRows]:
    """Cut ``log`` where another process begins, and join what one process wrote in several places.

    ``source`` is the name of the file and ``part`` its number among those of the run; both are kept in the sessions,
    which come in the order of the log.
    """
    if not len(log.rows) and not log.events:
        return []
    starts = dict.fromkeys(_starts(log), True)
    starts.setdefault(0, False)
    own_start = {one.pid for one in log.events if one.kind in ("solver", "resume") and one.pid}
    if len(starts) == 1 and log.rows.facts.one_process and log.rows.facts.losses_rise:
        speaker = int(log.rows.pid[0]) if len(log.rows) else 0
        if not speaker or own_start <= {speaker}:
            return [repaired(SessionRows(source, _most(log.rows, log.events), log.rows, log.events, starts[0], part))]
    offsets = np.array([one.byte_offset for one in log.events], "i8")

    @cache  # most sections stay as they are, and what is known of their rows is not to be found again
    def between(first: int, last: int) -> tuple[ParsedRows, tuple[LogEvent, ...]]:
        rows = log.rows[slice(*np.searchsorted(log.rows.byte_offset, [first, last]))]
        return rows, log.events[slice(*np.searchsorted(offsets, [first, last]))]

    sections = [between(first, last)[0] for first, last in pairwise([*sorted(starts), _END])]
    once = [_said_once(section) for section in sections]
    if sum(map(len, once)) < len(log.rows):
        log = log._replace(rows=ParsedRows.joined(once))
        between.cache_clear()
    for first, last in list(pairwise([*sorted(starts), _END])):
        section, events = between(first, last)
        opening = [one for one in events if one.kind in ("solver", "resume")]
        speaker = opening[-1].pid if opening else 0
        calm = section.facts.one_process and section.facts.losses_rise
        if calm and (not speaker or not len(section) or section.pid[0] in (0, speaker)):
            continue
        inside = section.losses
        for index in _changes(inside, own_start):
            starts[_beginning(log.rows, inside, index)] = False
        if not speaker or not len(inside) or inside.pid[0] in (0, speaker):
            continue
        # Threads of its own say what a process says, later than its start; another process may have said it before.
        if (inside.time[:3] < opening[-1].time).all():
            starts.setdefault(_beginning(log.rows, inside, 0), False)
    found: list[SessionRows] = []
    for first, last in pairwise([*sorted(starts), _END]):
        mine, events = between(first, last)
        if not len(mine) and not events:
            continue
        session = SessionRows(source, _most(mine, events), mine, events, starts[first], part)
        earlier = None if session.fresh else _earlier(found, session)
        if earlier is not None:
            joined = replace(
                found[earlier],
                rows=ParsedRows.joined([found[earlier].rows, mine]),
                events=(*found[earlier].events, *events),
            )
            found[earlier] = joined
        else:
            found.append(session)
    return [repaired(session) for session in found]


def _said_once(rows: ParsedRows) -> ParsedRows:
    """``rows`` of what one process began, without those that are there again to the microsecond.

    Pieces of a log that overlap were put together.
    """
    if rows.facts.times_rise or not rows.facts.timed:
        return rows
    said = (rows.time, rows.iteration, rows.kind, rows.metric, rows.net)
    order = np.lexsort(said)  # what is equal stays in the order of the log
    again = np.ones(len(rows), bool)
    again[0] = False
    for column in (*said, rows.value.view("i8")):
        again[1:] &= column[order][1:] == column[order][:-1]
    return rows[np.sort(order[~again])] if again.any() else rows


def _earlier(sessions: Sequence[SessionRows], later: SessionRows) -> int | None:
    """Index of the session that ``later`` continues; None without one."""
    for index in range(len(sessions) - 1, -1, -1):
        one = sessions[index]
        if one.pid == later.pid and one.pid:
            empty = not len(one.rows) or not len(later.rows)
            return index if empty or one.rows.iteration[-1] <= later.rows.iteration[0] else None
    return None


def _most(rows: ParsedRows, events: Sequence[LogEvent]) -> int:
    """The process that wrote most of these lines; 0 where none says it."""
    if len(rows) and rows.facts.one_process and rows.pid[0] > 0:
        return int(rows.pid[0])
    pids = rows.pid if len(rows) and rows.pid.max() > 0 else np.array([one.pid for one in events if one.pid] or [0])
    if (pids[0] == pids).all():
        return int(pids[0])
    values, counts = np.unique(pids, return_counts=True)
    return int(values[counts.argmax()])


def _goes_on(before: SessionRows, later: SessionRows) -> bool:
    """Whether ``later`` resumes where ``before`` was trained, from a snapshot of the same prefix."""
    start, facts = later.resumed_from, before.rows.facts
    reached = start is not None and len(before.rows) and facts.first <= start <= max(facts.last, *snapshots(before), 0)
    paths = [
        {one.text.partition("_iter_")[0] for one in some.events if one.kind in ("snapshot", "resume")}
        for some in (before, later)
    ]
    return bool(reached) and not paths[0].isdisjoint(paths[1])


def order_sessions(sessions: Sequence[SessionRows], *, numbered: bool = True) -> list[SessionRows]:
    """``sessions`` of one run in true order: of the part files; within a file, of the clock; with years that rise.

    Files that are not ``numbered`` are as one.
    """
    if len(sessions) < 2:
        return list(sessions)
    sessions = _in_known_years(sessions)
    parts: dict[int, list[SessionRows]] = {}
    for one in sorted(sessions, key=lambda one: one.part):
        parts.setdefault(one.part if numbered else 0, []).append(one)
    return _with_years([one for part in parts.values() for one in _by_clock(part)])


def _by_clock(sessions: Sequence[SessionRows]) -> Sequence[SessionRows]:
    """The sessions of one file in the order of their times, where all have some.

    Where a clock is behind by little, what resumes the session above it comes after it.
    A log without years says only month and day. Its sessions lie on a circle; the longest stretch without any, over
    which none goes on, is the one before the first session, so that a turn of the year and pieces in the wrong order
    are told apart.
    """
    times = [one.times() for one in sessions] if len(sessions) > 1 else []
    if len(sessions) < 2 or any(not len(one) for one in times):
        return sessions
    middle = [int(np.median(one)) for one in times]
    for number in range(1, len(sessions)):
        late = middle[number - 1] - middle[number]
        if 0 < late < _CLOCKS_DIFFER and _goes_on(sessions[number - 1], sessions[number]):
            middle[number] = middle[number - 1] + 1
    order = sorted(range(len(sessions)), key=lambda index: middle[index])
    if all(to_datetime(one).year <= UNKNOWN_YEAR + 1 for one in middle):
        order.sort(key=lambda index: middle[index] % YEAR)
        gaps = []
        for one, other in zip(order, [*order[1:], order[0]], strict=True):
            gap = (middle[other] - middle[one]) % YEAR
            gaps.append((gap > _LONGEST_PAUSE or not _goes_on(sessions[one], sessions[other]), gap))
        cut = max(range(len(gaps)), key=lambda k: (gaps[k], k)) + 1
        order = order[cut:] + order[:cut]
    return [sessions[index] for index in order]


def _in_known_years(sessions: Sequence[SessionRows]) -> Sequence[SessionRows]:
    """``sessions``; where one tells its year, the others in the year in which they are nearest to it."""
    ends = [one.ends() for one in sessions]
    known = [end[0] for end in ends if end is not None and to_datetime(end[0]).year > UNKNOWN_YEAR + 1]
    if not known or len(known) == len(ends):
        return sessions
    year = to_datetime(known[0]).year
    return [into_year(one, [year - 1, year, year + 1], known[0]) for one in sessions]


def _with_years(sessions: Sequence[SessionRows]) -> list[SessionRows]:
    """``sessions``, given in true order; those without a year are moved by as many as their clock is behind."""
    found, last = list[SessionRows](), None
    for one in sessions:
        ends = one.ends()
        if ends is not None:
            untold = to_datetime(ends[0]).year <= UNKNOWN_YEAR + 1
            years = (last - ends[0] + YEAR // 2) // YEAR if last is not None and untold else 0
            one = shifted(one, years * YEAR) if years > 0 else one
            last = ends[1] + max(years, 0) * YEAR
        found.append(one)
    return found
