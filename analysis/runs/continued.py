"""Which runs, each of a log of its own, seem to be one training: a night each, or a log that was rotated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from caffebench.analysis.runs.model import Run

__all__ = ["continued"]


def continued(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Runs that were trained one after the other, two at least: a group for each that no other continues.

    A run continues another where it resumes from a snapshot that this one had reached, told by the snapshot prefix; or
    where its log has no beginning, and the same process wrote the other. Runs of a log with several are left out.
    """
    count = Counter(source for run in runs for source in run.sources)
    alone = [run for run in runs if all(count[one] == 1 for one in run.sources)]
    places: dict[str | int, list[Run]] = {}
    for run in alone:
        places.setdefault(run.config.snapshot_prefix or "", []).append(run)
        places.setdefault(run.sessions[-1].pid, []).append(run)
    before: dict[str, Run] = {}
    for run in alone:
        first = run.sessions[0]
        if first.headless:
            known = places.get(first.pid, []) if first.pid else []
        else:
            known = places.get((first.resumed_file or "").rpartition("_iter_")[0] or "none", [])
        reached = [one for one in known if _reaches(one, run)]
        if reached:
            before[run.name] = max(reached, key=lambda one: one.iteration or 0)
    last = {run.name: run for run in before.values()}
    for run in alone:
        if run.name in before and run.name not in last:
            chain = [run]
            while chain[0].name in before:
                chain.insert(0, before[chain[0].name])
            yield chain


def _begin(run: Run) -> int:
    first = run.sessions[0]
    return first.resumed_from if first.resumed_from is not None else first.first_iteration or 0


def _reaches(before: Run, later: Run) -> bool:
    """Whether ``before`` was trained up to where ``later`` begins."""
    begin, reached = _begin(later), before.iteration
    if reached is None or _begin(before) >= begin:
        return False
    if later.sessions[0].headless:
        return reached <= begin
    return begin <= reached + (before.config.display or 1)  # of what came after the last display no line is there
