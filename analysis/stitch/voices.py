"""Who speaks in a log: one training, several ranks of one, or several trainings at the same time."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from heapq import merge

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import LOSS, MetricRegistry, ParsedLog, ParsedRows
from caffebench.analysis.stitch.turns import by_solver

__all__ = ["OF_ONE", "voices"]

OF_ONE = "batch size and epochs are of one rank"
_UNNAMED = 10_000  # numbers of labels from there on tell no rank
_FIELD = re.compile(r"^(?!device_id|random_seed)(\w+): (.+)$", re.MULTILINE)  # of a solver, alike in all ranks


def voices(log: ParsedLog, metrics: MetricRegistry) -> list[ParsedLog]:
    """``log`` itself, or one for each of several processes that train at once, with lines between each other's.

    Of the ranks of one training only the first is left; of a process that trains with several solvers each is one.
    ``metrics`` gave the ids in ``log``.
    """
    log = _first_rank(log)
    rows = log.rows
    if rows.facts.one_process:
        return by_solver(log, metrics)
    pids = _at_once(log)
    if len(pids) < 2:
        return [log]
    number = {pid: place for place, pid in enumerate(pids)}
    begins = np.append(0, _turns(rows))
    voice = np.array([number.get(pid, -1) for pid in rows.pid[begins].tolist()])
    # What another thread says is of the training that spoke last.
    voice = voice[np.maximum.accumulate(np.where(voice >= 0, np.arange(len(voice)), 0))]
    offsets = [one.byte_offset for one in log.events]
    spoken = voice[np.maximum(np.searchsorted(rows.byte_offset[begins], offsets) - 1, 0)].tolist()
    spoken = [number.get(one.speaker, last) for one, last in zip(log.events, spoken, strict=True)]
    each = np.repeat(voice, np.diff(begins, append=len(rows)))
    return [
        log._replace(
            rows=rows[each == place],
            # The batch system ends them all.
            events=tuple(
                one for one, of in zip(log.events, spoken, strict=True) if of == place or one.kind == "cancelled"
            ),
        )
        for place in range(len(pids))
    ]


def _first_rank(log: ParsedLog) -> ParsedLog:
    """``log`` without what other ranks than the first say, where several do; a note says who was left out.

    Speakers whose solvers differ are no ranks but trainings of their own (the containers of a pod): they all stay.
    A rank is told by what stands before (or after) the prefix of its lines; such lines have the process id -1 - rank.
    """
    if log.rows.pid.min(initial=0) >= 0:
        return log
    ranks = -1 - log.rows.pid
    trained = ranks[(log.rows.kind == LOSS) & (ranks >= 0)]
    found, counts = np.unique(trained, return_counts=True)
    found = found[counts * 5 >= counts.max(initial=0)]  # a label that stands seldom is noise
    if len(found) < 2:
        return log
    solvers: dict[int, dict[str, str]] = {}  # the first of each: a later one may have been changed for a resume
    for event in log.events:
        if event.kind == "solver" and event.rank in found:
            solvers.setdefault(event.rank, dict(_FIELD.findall(event.text)))
    known = list(solvers.values())
    if any(one[name] != value for one in known for name, value in known[0].items() if name in one):
        return log
    first = int(found[0])
    keep = (ranks < 0) | (ranks == first)
    others = [f"{one}" for one in found[1:] if one < _UNNAMED]
    who = f"rank {', '.join(others)}" if others else f"{len(found) - 1} more"
    return ParsedLog(
        log.rows[keep],
        tuple(one for one in log.events if one.rank in (-1, first)),
        log.bad_lines,
        log.is_caffe,
        (*log.notes, f"{len(found)} ranks speak in one log: only the first is read, left out: {who}; {OF_ONE}"),
    )


def _at_once(log: ParsedLog) -> list[int]:
    """The processes that train at once, in the order in which they come up; fewer than two where one after the other.

    A process that speaks again after another one, and did not start again in between, was there all the time. Where
    the log tells no starts, threads of one training are told from several trainings by what they say: those never say
    an iteration twice.
    """
    started: dict[int, list[int]] = {}
    for event in log.events:
        if event.kind == "solver" and event.speaker:
            started.setdefault(event.speaker, []).append(event.byte_offset)
    if len(started) > 1 and _one_comes_back(log.rows, started):
        return list(started)
    starts = [one.byte_offset for one in log.events if one.kind in ("solver", "start", "resume")]
    if len(_unannounced(log.rows, starts)) < 4:
        return []
    losses = log.rows.losses
    at = _unannounced(losses, starts)
    again = losses.iteration[at] <= losses.iteration[at - 1]
    pids, firsts, counts = np.unique(losses.pid, return_index=True, return_counts=True)
    many = (counts > 2) & (counts * 5 >= counts.max(initial=0))  # a flipped bit makes no training
    found: list[int] = pids[many][np.argsort(firsts[many])].tolist()
    return found if len(at) >= 3 * len(found) - 2 and again.sum() * 4 >= len(at) else []


def _one_comes_back(rows: ParsedRows, started: Mapping[int, Sequence[int]]) -> bool:
    """Whether one of the processes that ``started`` at these byte offsets speaks again after another one of them.

    Not where it started anew in between: in a container the same few numbers come again and again.
    """
    turns = _turns(rows)
    ends = np.concatenate([[0], np.column_stack([turns - 1, turns]).ravel(), [len(rows) - 1]])
    ends = ends[np.isin(rows.pid[ends], list(started))]
    shown = zip(rows.byte_offset[ends].tolist(), rows.pid[ends].tolist(), strict=True)
    told = sorted((offset, pid) for pid, some in started.items() for offset in some)
    before, starts_before = 0, dict[int, int]()
    for offset, pid in merge(shown, told):
        starts = bisect(started[pid], offset)
        if pid != before and starts_before.get(pid) == starts:
            return True
        before, starts_before[pid] = pid, starts
    return False


def _turns(rows: ParsedRows) -> npt.NDArray[np.int64]:
    """Indexes of the rows of another process than the one before."""
    found: npt.NDArray[np.int64] = np.flatnonzero(rows.pid[1:] != rows.pid[:-1]) + 1
    return found


def _unannounced(rows: ParsedRows, starts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Indexes of the rows of another process than the one before where none began; ``starts`` are byte offsets."""
    at = _turns(rows)
    began = np.searchsorted(starts, rows.byte_offset[at]) > np.searchsorted(starts, rows.byte_offset[at - 1])
    return at[~began]
