"""Sessions of one source to trainings: a new training is no resume, and a resume is no new training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from caffebench.analysis.read.files import distinct_names, numbered
from caffebench.analysis.stitch.session_rows import OF_A_HOST, SessionRows

__all__ = ["Training", "split_trainings", "without_echoes"]

_PREFIX = re.compile(r'^\s*snapshot_prefix: "([^"\n]*)"', re.MULTILINE)
_NET = re.compile(r'^\s*name: "([^"\n]*)"', re.MULTILINE)


class Training(NamedTuple):
    """Sessions that led to the same weights, in true order."""

    name: str
    """What tells it from others of its source; empty where it is the only one."""
    sessions: tuple[SessionRows, ...]


class _Start(NamedTuple):
    """What a session says of the training that it is of; empty where it says nothing."""

    prefix: str
    net: str
    resumed: str
    weights: str

    @classmethod
    def of(cls, session: SessionRows) -> _Start:
        solver, net = session.event("solver"), session.event("net")
        resumed = session.event("resume")
        weights = session.event("finetune")
        prefix = _PREFIX.search(solver.text) if solver else None
        # The name of a net stands before its layers, not after the first of them.
        text = net.text.partition("layer")[0] if net else ""
        name = _NET.search(text)
        return cls(
            prefix[1] if prefix else "",
            name[1] if name else "",
            resumed.text if resumed else "",
            weights.text if weights else "",
        )

    def may_be(self, other: _Start) -> bool:
        """Whether both have the snapshot prefix and, as far as they say it, the net of one training."""
        return self.prefix == other.prefix and (self.net == other.net or "" in (self.net, other.net))


def without_echoes(sessions: Sequence[SessionRows]) -> list[SessionRows]:
    """``sessions`` without those of further ranks: they have the solver of one that trains then, word for word."""
    kept: list[tuple[SessionRows, str]] = []
    for one in sessions:
        solver = one.event("solver")
        text = solver.text if solver is not None else ""
        if not text or not any(text == known and _overlap(one, other) for other, known in kept):
            kept.append((one, text))
    return [one for one, _ in kept]


def _overlap(one: SessionRows, other: SessionRows) -> bool:
    """Whether both trained at one time, as far as the log tells it."""
    here, there = one.rows.facts, other.rows.facts
    return here.began < there.ended and there.began < here.ended


def _same_process(one: SessionRows, later: SessionRows) -> bool:
    """Whether one process began both: with solvers that differ, or, where its number tells, with the same anew."""
    texts = [some.text for some in (one.event("solver"), later.event("solver")) if some is not None]
    again = one.pid >= OF_A_HOST and one.event("fatal") is None and later.anew
    return bool(one.pid) and one.pid == later.pid and len(texts) == 2 and (texts[0] != texts[1] or again)


def split_trainings(sessions: Sequence[SessionRows], *, at_once: bool = False) -> list[Training]:
    """Group ``sessions``, given in true order, by the training that they are of; in the order in which these began.

    ``at_once``: several processes trained at the same time; those are of different trainings.

    A session that resumes is of the training whose snapshot it names, else of the one before. One that begins anew is
    of a new training where it has another snapshot prefix or another net, where it begins with the weights of the one
    before, where that was finished, or where it is of the same process; else of the one before, which crashed.
    Each ``caffe test`` stands alone.
    """
    if len(sessions) == 1:
        return [Training("", tuple(sessions))]
    if tests := [one for one in sessions if one.is_test]:
        trainings = split_trainings([one for one in sessions if not one.is_test], at_once=at_once)
        names = numbered("test" for _ in tests)
        return [*trainings, *(Training(name, (one,)) for name, one in zip(names, tests, strict=True))]
    groups: list[list[SessionRows]] = []
    starts: list[_Start] = []
    for session in sessions:
        start = _Start.of(session)
        free = list(range(len(groups)))
        if at_once:  # the one of its own prefix is the one before
            free = [at for at in free if not any(_overlap(session, one) for one in groups[at])]
            free.sort(key=lambda at: starts[at].prefix == start.prefix)
        place = _place(session, start, groups, starts, free)
        if place is None:
            groups.append([session])
            starts.append(start)
            continue
        groups[place].append(session)
        known = starts[place]
        starts[place] = _Start(start.prefix or known.prefix, start.net or known.net, "", "")
    if len(groups) == 1:
        return [Training("", tuple(groups[0]))]
    names = numbered(distinct_names([one.prefix or one.net for one in starts]))
    return [Training(name, tuple(some)) for name, some in zip(names, groups, strict=True)]


def _place(
    session: SessionRows,
    start: _Start,
    groups: Sequence[Sequence[SessionRows]],
    starts: Sequence[_Start],
    free: Sequence[int],
) -> int | None:
    """Index of the training that a session continues, one of ``free``; None for a new one."""
    if not free:
        return None
    last = free[-1]
    if start.resumed:
        named = [at for at in free if starts[at].prefix and start.resumed.startswith(f"{starts[at].prefix}_iter_")]
        return named[-1] if named else last
    if session.resumed_from is not None or not session.fresh or session.event("solver") is None:
        return last
    mine = [at for at in free if start.prefix and start.may_be(starts[at])]
    if mine and not (len(session.rows) and any(len(one.rows) for one in groups[mine[-1]])):
        return mine[-1]  # one of the two is a start that failed: that makes no training of its own
    before = starts[last]
    if start.prefix and before.prefix and start.prefix != before.prefix:
        # What continues an earlier one after it crashed is of that; what begins anew under an old name is not.
        return None
    if start.net and before.net and start.net != before.net:
        return None
    if start.weights and before.prefix and start.weights.startswith(f"{before.prefix}_iter_"):
        return None
    if _same_process(groups[last][-1], session):
        return None  # a script that trains one after the other; the one before has not crashed
    trained = [one for one in groups[last] if len(one.rows)]
    finished = bool(trained) and trained[-1].event("done") is not None and trained[-1].event("stopped") is None
    return None if finished and len(session.rows) else last
