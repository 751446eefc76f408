"""Several ranks that speak in one log: one of them is read."""

from __future__ import annotations

import re

import numpy as np

from caffebench.analysis.read.columns import LOSS, ParsedLog

__all__ = ["first_rank"]

_UNNAMED = 10_000  # numbers of labels from there on tell no rank
_FIELD = re.compile(r"^(?!device_id|random_seed)(\w+): (.+)$", re.MULTILINE)  # of a solver, alike in all ranks


def first_rank(log: ParsedLog) -> ParsedLog:
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
    solvers = [dict(_FIELD.findall(one.text)) for one in log.events if one.kind == "solver" and one.rank in found]
    if any(one[name] != value for one in solvers for name, value in solvers[0].items() if name in one):
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
        (*log.notes, f"{len(found)} ranks speak in one log: only the first is read, left out: {who}"),
    )
