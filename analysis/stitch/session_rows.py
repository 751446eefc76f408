"""The part of a log that one process wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import NO_TIME, LogEvent, ParsedRows

__all__ = ["OF_A_HOST", "SessionRows", "snapshots"]

OF_A_HOST = 1000
"""Numbers of processes from there on tell one: in a container the same few small ones come again and again."""
_ITERATION = re.compile(r"_iter_(\d{1,15})(?:\.|$)")


@dataclass(frozen=True)
class SessionRows:
    """The part of a log that one process wrote, from its first line to its last."""

    source: str
    """The file that it is in."""
    pid: int
    rows: ParsedRows
    events: tuple[LogEvent, ...]
    fresh: bool
    """It begins with the start of a process, not in the middle of its training."""
    part: int = 0
    """Number of its file among those of the run."""
    garbled: int = 0
    """Rows left out because a flipped bit made their iteration impossible."""

    @cached_property
    def _kinds(self) -> frozenset[str]:
        return frozenset([one.kind for one in self.events])

    def event(self, *kinds: str) -> LogEvent | None:
        """The first event of one of these kinds."""
        if self._kinds.isdisjoint(kinds):
            return None
        return next(one for one in self.events if one.kind in kinds)

    def told(self, name: str) -> Mapping[str, Any]:
        """What our launcher's event ``name`` says, the first of them; empty without one."""
        return next((one.content for one in self.events if one.kind == "event" and one.text == name), {})

    def times(self) -> npt.NDArray[np.int64]:
        """Times in it: of all events, and of a thousand rows from the first to the last."""
        count = len(self.rows)
        rows = self.rows.time[np.linspace(0, count - 1, min(1000, count)).astype("i8")]
        events = [one.time for one in self.events if one.time != NO_TIME]
        return np.concatenate([rows[rows != NO_TIME], np.array(events, dtype="i8")])

    def ends(self) -> tuple[int, int] | None:
        """The first and the last time in it; None without any."""
        known = [one.time for one in self.events if one.time != NO_TIME]
        known += [self.rows.facts.began, self.rows.facts.ended] if self.rows.facts.ended != NO_TIME else []
        return (min(known), max(known)) if known else None

    @property
    def is_test(self) -> bool:
        """It is one of ``caffe test``: it trains nothing, and has no solver."""
        return self.event("caffe_test") is not None and self.event("solver") is None

    @property
    def resumed_from(self) -> int | None:
        """The iteration that it resumed from, as the log says it."""
        for one in self.events:
            if one.kind == "event" and one.text == "resume" and isinstance(one.content.get("iteration"), int):
                return int(one.content["iteration"])
            if one.kind == "resume" and (found := re.search(r"_iter_(\d{1,15})(?!\d)", one.text)):
                return int(found[1])
        return None

    @property
    def anew(self) -> bool:
        """It began from scratch, at iteration 0: whatever was trained before is of no account.

        Its first row may be a later one: without a display, and before mid 2014. What a script restores is not told.
        """
        if not self.fresh or self.resumed_from is not None or not len(self.rows):
            return False
        by_caffe = any(one.kind == "start" and one.text == "Starting Optimization" for one in self.events)
        return by_caffe or (self.event("solver", "start") is not None and self.rows.facts.first == 0)


def snapshots(session: SessionRows) -> dict[int, int]:
    """The snapshots that ``session`` wrote: iteration -> time in microseconds since 1970, ``NO_TIME`` without one."""
    found = ((_ITERATION.search(one.text), one.time) for one in session.events if one.kind == "snapshot")
    return {int(match[1]): time for match, time in found if match}
