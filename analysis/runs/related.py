"""Which runs, each of a log of its own, seem to be one training: a night each, a log that was rotated, or a copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from caffebench.analysis.read.lines import UNKNOWN_YEAR
from caffebench.analysis.stitch.session_rows import OF_A_HOST

if TYPE_CHECKING:
    from caffebench.analysis.runs.model import Run

__all__ = ["continued", "copies"]


def copies(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that say the same, as what Caffe writes to the terminal and to a file of its own: two or more in a group.

    They began at one time, in one process, with one solver, and their values are the same; one may be longer.
    """
    alike: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        first = run.sessions[0]
        if first.began is None or not run.stitched.parts:
            continue
        began = first.began.replace(year=UNKNOWN_YEAR)  # one of them may tell it
        config = run.config
        key = (first.pid, began, config.snapshot_prefix, run.seed, config.solver_key, config.net_key)
        some = alike.setdefault(key, [])
        if not some or _same_values(some[0], run):
            some.append(run)
    return [some for some in alike.values() if len(some) > 1]


def _same_values(one: Run, other: Run) -> bool:
    here, there = (run.stitched.parts[0].rows.value for run in (one, other))
    count = min(len(here), len(there))
    return np.array_equal(here[:count], there[:count], equal_nan=True)


def continued(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Runs that were trained one after the other, two at least: a group for each that no other continues.

    A run continues another where it resumes from a snapshot that this one had reached, told by the snapshot prefix; or
    where its log has no beginning, and the same process wrote the other. Runs of a log with several are left out.
    """
    count = Counter(source for run in runs for source in run.sources)
    alone = [run for run in runs if all(count[one] == 1 for one in run.sources)]
    of_prefix: dict[str, list[Run]] = {}
    of_process: dict[int, list[Run]] = {}
    for run in alone:
        if run.config.snapshot_prefix:
            of_prefix.setdefault(run.config.snapshot_prefix, []).append(run)
        if pid := run.sessions[-1].pid:
            of_process.setdefault(pid, []).append(run)
    before: dict[str, Run] = {}
    for run in alone:
        first = run.sessions[0]
        if first.headless:
            known = of_process.get(first.pid, [])
        else:
            known = of_prefix.get((first.resumed_file or "").rpartition("_iter_")[0], [])
        reached = [one for one in known if _reaches(one, run)]
        if reached:
            began = _start_time(run)  # over New Year the one before may seem to be later
            before[run.name] = max(reached, key=lambda one: (_start_time(one) < began, _start_time(one)))
    followed = {run.name for run in before.values()}
    for run in alone:
        if run.name in before and run.name not in followed:
            chain = [run]
            while chain[0].name in before:
                chain.insert(0, before[chain[0].name])
            yield chain


def _start_time(run: Run) -> datetime:
    return run.sessions[0].began or datetime.min


def _end(run: Run) -> datetime:
    return run.sessions[-1].finished or datetime.min


def _first_iteration(run: Run) -> int:
    first = run.sessions[0]
    return first.resumed_from if first.resumed_from is not None else first.first_iteration or 0


def _reaches(before: Run, later: Run) -> bool:
    """Whether ``before`` was trained up to where ``later`` begins."""
    begin, reached = _first_iteration(later), before.iteration
    if reached is None or _first_iteration(before) >= begin:
        return False
    if (first := later.sessions[0]).headless:  # pieces of a log may overlap
        overlaps = first.pid >= OF_A_HOST and reached < (later.iteration or 0) and _start_time(later) <= _end(before)
        return reached <= begin or overlaps
    return begin <= reached + (before.config.display or 1)  # of what came after the last display no line is there
