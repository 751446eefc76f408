"""Several solvers of one process, which a script made and steps by turns (a GAN): which of them says what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import LOSS, TEST, TRAIN, LogEvent, MetricRegistry, ParsedLog, ParsedRows

__all__ = ["by_solver"]

_OUTPUT = re.compile(rb"This network produces output (\S[^\n]*)")
_PREFIX = re.compile(r'^snapshot_prefix: "([^"\n]+)"', re.MULTILINE)
Ints = npt.NDArray[np.int64]


def by_solver(log: ParsedLog, metrics: MetricRegistry) -> list[ParsedLog]:
    """``log`` itself, or one for each of several solvers that its process made before it trained.

    They are told apart by the outputs of their nets; where these are called alike, a note says so. ``metrics`` gave the
    ids in ``log``.
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
        outputs = [_outputs(log.events[a:b]) for a, b in pairwise([*some, first_row])]
        if not all(outputs):
            continue  # a start that failed
        if any(one == other for place, one in enumerate(outputs) for other in outputs[:place]):
            if (again := np.diff(rows.losses.iteration) == 0).sum() * 4 > len(again):
                notes = (f"{len(some)} solvers of one process say the same outputs: of each iteration the last counts",)
            continue
        of_rows[begin:end] = owners = _owners(rows, outputs, metrics)
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


def _outputs(events: Sequence[LogEvent]) -> set[str]:
    """What the nets of one solver put out, as they say when they are set up."""
    wiring = b"".join(one.content["wiring"] for one in events if one.kind == "net")
    return {name.decode(errors="replace").rstrip() for name in _OUTPUT.findall(wiring)}


def _owners(rows: ParsedRows, outputs: Sequence[set[str]], metrics: MetricRegistry) -> Ints:
    """The number of the solver that says each row (n): the one whose nets have all outputs of the rows around it."""
    order = rows.net.astype("i8") * 2**32 + metrics.indexes[rows.metric]
    tests = rows.kind == TEST
    begins = rows.kind == LOSS
    begins[0] = True
    begins[1:] |= tests[1:] & (~tests[:-1] | (order[1:] <= order[:-1]))
    edges = [*np.flatnonzero(begins).tolist(), len(rows)]
    named = (rows.kind == TRAIN) | tests
    able: list[list[int]] = []
    for begin, end in pairwise(edges):
        names = {metrics[number].name for number in set(rows.metric[begin:end][named[begin:end]].tolist())}
        able.append([number for number, one in enumerate(outputs) if names <= one] or list(range(len(outputs))))
    # What several may have said, as a test of which all have the outputs, is of the one that speaks next; but of one
    # iteration each says one test.
    owner = next((one[0] for one in reversed(able) if len(one) == 1), len(outputs) - 1)
    owners, iteration, tested = list[int](), -1, set[int]()
    for begin, some in zip(edges[-2::-1], reversed(able), strict=True):
        if rows.iteration[begin] != iteration:
            iteration, tested = int(rows.iteration[begin]), set()
        free = [one for one in some if not (tests[begin] and one in tested)] or some
        owner = owner if owner in free else free[-1]
        owners.append(owner)
        if tests[begin]:
            tested.add(owner)
    return np.repeat(owners[::-1], np.diff(edges))


def _of_snapshot(event: LogEvent, solvers: Sequence[LogEvent], last: int) -> int:
    """The solver whose snapshot it is; ``last`` for what is no snapshot, or of none of them."""
    prefixes = [found[1] if (found := _PREFIX.search(one.text)) else "" for one in solvers]
    mine = [at for at, one in enumerate(prefixes) if one and event.text.startswith(f"{one}_iter_")]
    return mine[0] if mine and event.kind == "snapshot" else last
