"""Several solvers of one process, which a script made and steps by turns (a GAN): which of them says what."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import LOSS, TEST, TRAIN, LogEvent, MetricRegistry, ParsedLog, ParsedRows

__all__ = ["by_solver"]

_OUTPUT = re.compile(rb"This network produces output (\S[^\n]*)")
_PREFIX = re.compile(r'^snapshot_prefix: "([^"\n]+)"', re.MULTILINE)
_FIELD = re.compile(r"^(base_lr|display|test_interval): (\d[\d.e+-]{0,30})$", re.MULTILINE)
Ints = npt.NDArray[np.int64]


def by_solver(log: ParsedLog, metrics: MetricRegistry) -> list[ParsedLog]:
    """``log`` itself, or one for each of several solvers that its process made before it trained.

    They are told apart by the outputs of their nets, their counts and their learning rates; where these are alike, a
    note says so. ``metrics`` gave the ids in ``log``.
    """
    solvers = [number for number, one in enumerate(log.events) if one.kind == "solver"]
    if len(solvers) < 2:
        return [log]
    offsets = np.array([one.byte_offset for one in log.events], "i8")
    places = np.searchsorted(log.rows.byte_offset, offsets)
    of_rows, of_events = np.zeros(len(log.rows), "i8"), np.zeros(len(log.events), "i8")
    together = [list(some) for _, some in groupby(solvers, key=lambda number: places[number])]
    notes: tuple[str, ...] = ()
    for some, following in pairwise([*together, [len(log.events)]]):
        begin, end = places[some[0]], places[following[0]] if following[0] < len(places) else len(log.rows)
        rows = log.rows[begin:end]
        if len(some) < 2 or not len(rows) or len({log.events[number].pid for number in some}) > 1:
            continue
        first_row = int(np.searchsorted(offsets, rows.byte_offset[0]))
        solvers_there = [_Solver.of(log.events[a], log.events[a + 1 : b]) for a, b in pairwise([*some, first_row])]
        if not all(one.outputs for one in solvers_there):
            continue  # a start that failed
        of_rows[begin:end] = owners = _owners(rows, solvers_there, metrics)
        alike = {(frozenset(one.outputs), one.base_lr) for one in solvers_there}
        if len(alike) < len(some) == len(set(owners.tolist())):
            notes = (f"{len(some)} solvers of one process say the same outputs: told apart by their turns alone",)
        for number in range(some[0], following[0]):
            event = log.events[number]
            if number < first_row:
                of_events[number] = int(np.searchsorted(some, number, "right")) - 1
            else:
                last = int(owners[places[number] - begin - 1])
                of_events[number] = _of_snapshot(event, [log.events[one] for one in some], last)
    log = log._replace(notes=(*log.notes, *notes))
    if not of_events.any():
        return [log]
    everywhere = ("created", "cancelled", "killed")  # the year, and who ended them all
    return [
        log._replace(
            rows=log.rows[of_rows == one],
            events=tuple(
                event for event, of in zip(log.events, of_events, strict=True) if of == one or event.kind in everywhere
            ),
        )
        for one in range(int(of_events.max()) + 1)
    ]


class _Solver(NamedTuple):
    """What tells the lines of a solver from those of another."""

    outputs: set[str]
    """Of its nets, as they say when they are set up."""
    base_lr: float
    display: int
    test_interval: int

    @classmethod
    def of(cls, solver: LogEvent, events: Sequence[LogEvent]) -> _Solver:
        """Of the event ``solver`` and those that follow it."""
        told = dict(_FIELD.findall(solver.text))
        wiring = b"".join(one.content["wiring"] for one in events if one.kind == "net")
        outputs = {name.decode(errors="replace").rstrip() for name in _OUTPUT.findall(wiring)}
        display, interval = (int(told.get(name, 0)) for name in ("display", "test_interval"))
        return cls(outputs, float(told.get("base_lr", "nan")), display, interval)


def _owners(rows: ParsedRows, solvers: Sequence[_Solver], metrics: MetricRegistry) -> Ints:
    """The number of the solver that says each row (n).

    Of the solvers whose nets have all outputs of a display or a test, it is the one whose own count goes on there; of
    several the one with that learning rate; of several the one whose turn it is. A test is of what is displayed next.
    """
    order = rows.net.astype("i8") * 2**32 + metrics.indexes[rows.metric]
    tests, named = rows.kind == TEST, (rows.kind == TRAIN) | (rows.kind == TEST)
    begins = rows.kind == LOSS
    begins[0] = True
    begins[1:] |= tests[1:] & (~tests[:-1] | (order[1:] <= order[:-1]))
    starts = np.flatnonzero(begins)
    edges = [*starts.tolist(), len(rows)]
    able: list[list[int]] = []
    for begin, end in pairwise(edges):
        names = {metrics[number].name for number in set(rows.metric[begin:end][named[begin:end]].tolist())}
        able.append([number for number, one in enumerate(solvers) if names <= one.outputs] or list(range(len(solvers))))
    iterations, is_test = rows.iteration[starts].tolist(), tests[starts].tolist()
    owners = [-1] * len(able)
    for of_tests in (False, True):
        steps = [one.test_interval if of_tests else one.display for one in solvers]
        turns = [-len(solvers) + number for number in range(len(solvers))]
        rates = [one.base_lr for one in solvers]
        mine = [place for place, test in enumerate(is_test) if test == of_tests]
        following = [iterations[place] for place in mine[:1]] * len(solvers)  # where each says something next
        for place in mine:
            begin, at, some = edges[place], iterations[place], able[place]
            shown = owners[place + 1] if of_tests and iterations[place + 1 : place + 2] == [at] else -1
            goes_on = [one for one in some if following[one] == at] or some
            near = [one for one in goes_on if of_tests or math.isclose(rates[one], rows.lr[begin], rel_tol=1e-4)]
            owner = shown if shown in some else min(near or goes_on, key=turns.__getitem__)
            owners[place], turns[owner], rates[owner] = owner, place, float(rows.lr[begin])
            following[owner] = at + steps[owner]
    return np.repeat(owners, np.diff(edges))


def _of_snapshot(event: LogEvent, solvers: Sequence[LogEvent], last: int) -> int:
    """The solver whose snapshot it is; ``last`` for what is no snapshot, or of none of them."""
    prefixes = [found[1] if (found := _PREFIX.search(one.text)) else "" for one in solvers]
    mine = [at for at, one in enumerate(prefixes) if one and event.text.startswith(f"{one}_iter_")]
    return mine[0] if mine and event.kind == "snapshot" else last
