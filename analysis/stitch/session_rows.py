"""The part of a log that one process wrote, and what it says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.block import Mark
from caffebench.analysis.read.columns import LOSS, NO_TIME, Rows
from caffebench.analysis.read.lines import moment
from caffebench.analysis.read.parser import Hidden
from caffebench.analysis.read.store import Store
from caffebench.analysis.runs.config import Config, read_config
from caffebench.analysis.runs.model import Session

__all__ = ["Piece", "Told", "snapshot_times", "to_session", "told"]

_SNAPSHOT = re.compile(r"_iter_(\d{1,15})\.")
_ON_REQUEST = {"SIGTERM", "SIGINT", "SIGHUP"}


@dataclass
class Piece:
    """The part of a log that one process wrote."""

    source: str
    pid: int
    rows: Rows
    marks: list[Mark]
    hidden: list[Hidden]
    store: Store
    """Where the hidden rows are; ``rows`` says after which of its own they come."""
    fresh: bool
    """It begins with the start of a process, not in the middle of its training."""
    part: int = 0
    garbled: int = 0
    """Rows left out because a flipped bit made their iteration impossible."""

    def mark(self, *kinds: str) -> Mark | None:
        """The first mark of one of these kinds."""
        return next((one for one in self.marks if one.kind in kinds), None)

    def times(self) -> npt.NDArray[np.int64]:
        """Times in it: of all marks, and of a thousand rows from the first to the last."""
        said = [one.time for one in self.marks if one.time != NO_TIME]
        rows, weight = self.rows.time, np.ones(len(self.rows), "i8")
        gaps = np.flatnonzero(self.rows.gap >= 0)
        weight[gaps] += np.array([self.hidden[gap].count for gap in self.rows.gap[gaps]], "i8")
        every = np.cumsum(weight)
        count = int(every[-1]) if len(every) else 0
        chosen = np.linspace(0, count - 1, min(1000, count)).astype("i8")
        place = np.searchsorted(every, chosen, "right")
        deep = chosen - (every - weight)[place] - 1  # how deep in the hidden rows behind a row
        times = rows[place]
        for gap in np.unique(place[deep >= 0]):
            inside = (place == gap) & (deep >= 0)
            hidden = self.hidden[self.rows.gap[gap]]
            times[inside] = self.store.get(hidden.number)[6][deep[inside]] + (rows[gap] - hidden.time)
        return np.concatenate([times[times != NO_TIME], np.array(said, dtype="i8")])

    def reveal(self) -> None:
        """Bring back the hidden rows whose iterations other rows have too: some of them may have been said twice."""
        seen, gaps = self.rows.iteration, np.flatnonzero(self.rows.gap >= 0)
        if not len(gaps) or (seen[1:] >= seen[:-1]).all():
            return
        hidden = [self.hidden[gap] for gap in self.rows.gap[gaps]]
        first, last = (np.array([getattr(one, end) for one in hidden]) for end in ("first", "last"))
        ordered = np.sort(seen)
        twice = np.searchsorted(ordered, first, "left") < np.searchsorted(ordered, last, "right")
        order = np.argsort(first)
        overlap = np.flatnonzero(np.maximum.accumulate(last[order])[:-1] >= first[order][1:])
        twice[order[overlap]] = twice[order[overlap + 1]] = True
        parts, begin = [], 0
        for gap, one in zip(gaps[twice].tolist(), np.flatnonzero(twice).tolist(), strict=True):
            columns = self.store.get(hidden[one].number)
            count, time = len(columns[0]), columns[6] + (self.rows.time[gap] - hidden[one].time)
            at, pid = (np.full(count, column[gap]) for column in (self.rows.at, self.rows.pid))
            before = self.rows[begin : gap + 1]
            before.gap = np.append(before.gap[:-1], np.int32(-1))
            parts += [before, Rows(*(*columns[:6], at, time, pid, np.full(count, -1, "i4")))]
            begin = gap + 1
        self.rows = Rows.joined([*parts, self.rows[begin:]])

    def ends(self) -> tuple[int, int] | None:
        """The first and the last time in it; None where it tells none."""
        known = self.rows.time[self.rows.time != NO_TIME].tolist() + [
            one.time for one in self.marks if one.time != NO_TIME
        ]
        return (min(known), max(known)) if known else None

    def resumed_from(self) -> int | None:
        """The iteration that it resumed from, as the log says it."""
        for one in self.marks:
            if one.kind == "event" and one.text == "resume" and isinstance(one.content.get("iteration"), int):
                return int(one.content["iteration"])
            if one.kind == "resume" and (found := re.search(r"_iter_(\d{1,15})(?!\d)", one.text)):
                return int(found[1])
        return None

    def shift(self, time: int) -> None:
        """Move all its times by so many microseconds."""
        self.rows.time = np.where(self.rows.time == NO_TIME, NO_TIME, self.rows.time + time)
        for mark in self.marks:
            if mark.time != NO_TIME:
                mark.time += time


@dataclass
class Told:
    """The columns of the train lines that tell processes apart."""

    at: npt.NDArray[np.int64]
    pid: npt.NDArray[np.int32]
    iteration: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Number of lines."""
        return len(self.at)

    def __getitem__(self, chosen: slice) -> Told:
        """Some of them."""
        return Told(self.at[chosen], self.pid[chosen], self.iteration[chosen])


def told(rows: Rows) -> Told:
    """The train lines among rows."""
    losses = np.flatnonzero(rows.kind == LOSS)
    return Told(rows.at[losses], rows.pid[losses], rows.iteration[losses])


def _ending(piece: Piece) -> tuple[str, str]:
    """How a session ended, and the log's own words for it."""
    ended, reason = "cut", ""
    for mark in piece.marks:
        if mark.kind == "event" and mark.text == "end":
            status = str(mark.content.get("status"))
            if status in {"done", "stopped", "crashed", "not_converged"}:
                return status, str(mark.content.get("reason") or "")
        elif mark.kind in ("fatal", "broken") and ended != "crashed":
            ended, reason = "crashed", mark.text
        elif mark.kind == "signal" and ended == "cut":
            ended = "stopped" if mark.text in _ON_REQUEST else "crashed"
            reason = f"{mark.text} received"
        elif mark.kind == "stopped" and ended == "cut":
            ended, reason = "stopped", "stopped on request"
        elif mark.kind == "done" and ended == "cut":
            ended, reason = "done", "Optimization Done"
    return ended, reason


def _config(piece: Piece) -> Config:
    solver = piece.mark("solver") or piece.mark("head")
    net = piece.mark("net")
    gpus = piece.mark("gpus")
    count = len(gpus.text.split(",")) if gpus is not None else 1
    wiring = net.content["wiring"] if net is not None else b""
    return read_config(solver.text if solver else "", net.text if net else "", wiring, count)


def to_session(piece: Piece, number: int) -> Session:
    """Describe one piece."""
    ended, reason = _ending(piece)
    losses = told(piece.rows)
    seen = piece.rows.iteration
    ends = piece.ends()
    weights = piece.mark("finetune")
    resume = next((one for one in piece.marks if one.kind == "event" and one.text == "resume"), None)
    said = resume.content if resume is not None else {}
    return Session(
        number=number,
        source=piece.source,
        pid=piece.pid,
        began=moment(ends[0]) if ends else None,
        finished=moment(ends[1]) if ends else None,
        resumed_from=piece.resumed_from(),
        weights=weights.text if weights else None,
        first_iteration=int(seen[0]) if len(seen) else None,
        last_iteration=int((losses.iteration if len(losses) else seen).max()) if len(seen) else None,
        ended=ended,
        reason=reason,
        config=_config(piece),
        restored=tuple(map(str, said.get("restored") or ())),
        not_restored=tuple(map(str, said.get("not_restored") or ())),
    )


def snapshot_times(piece: Piece) -> dict[int, int]:
    """Iteration -> time of the snapshots that were written."""
    found = ((_SNAPSHOT.search(one.text), one.time) for one in piece.marks if one.kind == "snapshot")
    return {int(match[1]): time for match, time in found if match and time != NO_TIME}
