"""Sessions in true order to the long table: rolled-back rows dropped, time and epochs summed up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caffebench.analysis.model import Session
from caffebench.analysis.rows import NO_TIME, TEST, TRAIN, Metric, Rows, Values
from caffebench.analysis.stitch import Piece, snapshot_times

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Stitched", "stitch"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class _Timeline:
    """Training seconds and images seen by iteration, of what survives."""

    def __init__(self) -> None:
        self.iterations: Ints = np.empty(0, "i8")
        self.seconds: Floats = np.empty(0)
        self.images: Floats = np.empty(0)

    def seconds_at(self, iteration: int) -> float:
        """Training time that led to ``iteration``; what a log lacks counts as none."""
        return float(np.interp(iteration, self.iterations, self.seconds)) if len(self.iterations) else 0.0

    def images_at(self, iteration: int, session: Session, header: Mapping[str, Any]) -> float:
        """Images seen up to ``iteration``; what a log lacks is taken to have been trained as ``session`` is."""
        last = int(self.iterations[-1]) if len(self.iterations) else 0
        if iteration > last:
            seen = float(self.images[-1]) if len(self.iterations) else 0.0
            return seen + float(_batches(session, header, np.array([iteration]), last)[0])
        return float(np.interp(iteration, self.iterations, self.images)) if len(self.iterations) else 0.0

    def follow(
        self,
        start: int,
        rows: Rows,
        seconds: Floats,
        images: Floats,
        snapshots: Mapping[int, int],
        session: Session,
        header: Mapping[str, Any],
    ) -> None:
        """Put a session's points in place of what it rolled back; ``snapshots`` are iterations and their times."""
        keep = self.iterations < start
        known = np.flatnonzero(rows.time != NO_TIME)
        written = np.array(list(snapshots) if len(known) else [], "i8")
        moments = np.array([snapshots[at] for at in written.tolist()], "f8")
        if len(known):
            moments = np.maximum((moments - float(rows.time[known[0]])) / 1e6 + float(seconds[known[0]]), 0.0)
        seen = images[0] + _batches(session, header, written, int(rows.iteration[0]))
        iterations = np.concatenate([rows.iteration, written])
        # At one iteration the snapshot counts: it comes last, and the order is stable.
        order = np.argsort(iterations, kind="stable")
        self.iterations = np.concatenate([self.iterations[keep], iterations[order]])
        self.seconds = np.concatenate([self.seconds[keep], np.concatenate([seconds, moments])[order]])
        self.images = np.concatenate([self.images[keep], np.concatenate([images, seen])[order]])


def _clock(piece: Piece) -> Floats:
    """Seconds of each row since training began in this session; NaN without a time. It never runs backwards."""
    time = piece.rows.time
    known = time != NO_TIME
    seconds = np.full(len(time), np.nan)
    if not known.any():
        return seconds
    first = int(time[known][0])
    start = min((one.time for one in piece.marks if one.kind == "start" and one.time != NO_TIME), default=first)
    seconds[known] = np.maximum.accumulate((time[known] - min(start, first)) / 1e6)
    return seconds


def _batches(session: Session, header: Mapping[str, Any], iterations: Ints, start: int) -> Floats:
    """Images seen between ``start`` and each iteration."""
    phases = header.get("phases")
    edges, sizes = [], []
    if isinstance(phases, list):
        for phase in phases:
            if (
                isinstance(phase, dict)
                and isinstance(phase.get("until"), int)
                and isinstance(phase.get("batch_size"), int)
            ):
                edges.append(phase["until"])
                sizes.append(phase["batch_size"] * int(phase.get("iter_size") or 1))
    if not edges:
        size = session.config.batch_size
        trained: Floats = (iterations - start).astype("f8")
        return trained * (np.nan if size is None else float(size))
    points = np.concatenate([[0], np.array(edges, "f8"), [1e15]])
    widths = np.diff(points)
    images = np.concatenate([[0.0], np.cumsum(widths * np.array([*sizes, sizes[-1]], "f8"))])
    seen: Floats = np.interp(iterations, points, images) - float(np.interp(start, points, images))
    return seen


@dataclass
class _Kept:
    """Rows of one session that still survive."""

    session: int
    rows: Values
    seconds: Floats
    epochs: Floats

    def until(self, iteration: int) -> _Kept:
        """Without the rows past ``iteration``."""
        keep = self.rows.iteration <= iteration
        return self if keep.all() else _Kept(self.session, self.rows[keep], self.seconds[keep], self.epochs[keep])


@dataclass
class Stitched:
    """A run's surviving rows, still in columns: a log of gigabytes becomes a table part by part."""

    name: str
    metrics: Sequence[Metric]
    parts: list[_Kept]

    def __len__(self) -> int:
        """Number of rows."""
        return sum(len(one.rows) for one in self.parts)

    @property
    def iteration(self) -> int | None:
        """The last iteration; None where there is no row."""
        return max((int(one.rows.iteration.max()) for one in self.parts), default=None)

    @property
    def epochs(self) -> float | None:
        """Epochs at the last row; None where that is not known."""
        last = float(self.parts[-1].epochs.max()) if self.parts else float("nan")
        return None if last != last else round(last, 6)

    def frames(self, size: int = 1 << 19) -> Iterator[pl.DataFrame]:
        """The long table in frames of at most ``size`` rows."""
        for part in self.parts:
            for first in range(0, len(part.rows), size):
                chosen = slice(first, first + size)
                yield _frame(
                    self.name, part.session, part.rows[chosen], part.seconds[chosen], part.epochs[chosen], self.labels
                )

    @cached_property
    def labels(self) -> dict[tuple[int, int], str]:
        """Names of metrics by kind and code."""
        return _labels(self.parts, self.metrics)

    def named(self, phase: str, net: int | None = None) -> list[tuple[str, Metric]]:
        """Metrics of a phase in the order in which the log first says them, with what is known of each."""
        found: dict[str, Metric] = {}
        for part in self.parts:
            mine = part.rows.kind == TEST if phase == "test" else part.rows.kind != TEST
            if net is not None:
                mine &= part.rows.net == net
            rows = part.rows[mine]
            keys = rows.metric.astype("i8") * 8 + rows.kind
            pairs = _pairs(rows)
            pairs.sort(key=lambda pair: int((keys == pair[1] * 8 + pair[0]).argmax()))
            for pair in pairs:
                found.setdefault(self.labels[pair], self.metrics[pair[1]])
        return list(found.items())

    def chosen(self, metric: str, phase: str, net: int | None) -> Iterator[tuple[_Kept, npt.NDArray[np.bool_]]]:
        """Each part and which of its rows are of one metric."""
        pairs = [
            pair for pair, name in self.labels.items() if name == metric and (pair[0] == TEST) == (phase == "test")
        ]
        for part in self.parts:
            mine = np.zeros(len(part.rows), bool)
            for kind, code in pairs:
                mine |= (part.rows.kind == kind) & (part.rows.metric == code)
            if net is not None:
                mine &= part.rows.net == net
            yield part, mine

    def curve(self, metric: str, phase: str, net: int | None) -> pl.DataFrame:
        """The rows of one metric."""
        import polars as pl

        frames = [
            _frame(self.name, part.session, part.rows[mine], part.seconds[mine], part.epochs[mine], self.labels)
            for part, mine in self.chosen(metric, phase, net)
        ]
        return pl.concat([_empty(), *frames])

    def points(self, metric: str, phase: str, net: int | None = None) -> tuple[Ints, Floats]:
        """Iterations and values of one metric."""
        found = [(part.rows.iteration[mine], part.rows.value[mine]) for part, mine in self.chosen(metric, phase, net)]
        if len(found) == 1:
            return found[0]
        none = Values.none()
        shown, values = zip((none.iteration, none.value), *found, strict=True)
        return np.concatenate(shown), np.concatenate(values)

    def frame(self) -> pl.DataFrame:
        """The long table whole."""
        import polars as pl

        return pl.concat([_empty(), *self.frames()])


def stitch(
    name: str,
    metrics: Sequence[Metric],
    pieces: Sequence[Piece],
    sessions: Sequence[Session],
    header: Mapping[str, Any],
    train_size: int | None,
) -> tuple[Stitched, float | None]:
    """The surviving rows and the training seconds; ``sessions`` get their lost iterations and seconds."""
    timeline = _Timeline()
    kept: list[_Kept] = []
    reached: tuple[int, Session] | None = None
    total: float | None = None
    final = max((number for number, piece in enumerate(pieces) if len(piece.rows)), default=0)
    for number, (piece, session) in enumerate(zip(pieces, sessions, strict=True)):
        rows = piece.rows
        if not len(rows):
            continue
        first = int(rows.iteration.min())
        start = first if session.resumed_from is None else min(session.resumed_from, first)
        if reached is not None and reached[0] > start:
            reached[1].lost_iterations += reached[0] - start
        clock = _clock(piece)
        known = ~np.isnan(clock)
        session.seconds = float(clock[known].max()) if known.any() else 0.0
        seconds = clock + timeline.seconds_at(start if piece.mark("start") is not None else first)
        images: Floats = timeline.images_at(start, session, header) + _batches(session, header, rows.iteration, start)
        kept = [one.until(start) for one in kept]
        own = _once(rows)
        mine = _Kept(session.number, rows.values()[own], seconds[own], images[own] / (train_size or np.nan))
        kept = [*(_replaced(one, mine, start) for one in kept), mine]
        # A row at the iteration of the resume may be of a test that ended after the snapshot was written.
        mine.seconds = np.maximum(
            mine.seconds, max((float(np.nanmax(one.seconds)) for one in kept[:-1] if _timed(one)), default=0.0)
        )
        snapshots = {at: time for at, time in snapshot_times(piece).items() if at >= start}
        if number < final:  # a timeline is needed only where another session follows
            timeline.follow(start, rows, seconds, images, snapshots, session, header)
        reached = (max(int(rows.iteration.max()), *snapshots, 0), session)
        if known.any():
            total = float(seconds[known].max())
    return Stitched(name, metrics, [one for one in kept if len(one.rows)]), total


def _timed(part: _Kept) -> bool:
    return bool((~np.isnan(part.seconds)).any())


def _key(rows: Values) -> npt.NDArray[np.int32]:
    """One small number for metric, kind and net."""
    nets = int(rows.net.max(initial=-1)) + 2
    key = rows.metric.astype("i4")
    key *= 8 * nets
    key += rows.kind.astype("i4") * nets
    key += rows.net + 1
    return key


def _different(keys: npt.NDArray[np.int32]) -> list[int]:
    """The keys that there are, without sorting millions."""
    if not len(keys) or int(keys.max()) > 1 << 24:
        return [int(one) for one in np.unique(keys)]
    count = np.zeros(int(keys.max()) + 1, "i8")
    for first in range(0, len(keys), _SOME):
        count += np.bincount(keys[first : first + _SOME], minlength=len(count))
    return [int(one) for one in np.flatnonzero(count)]


_SOME = 1 << 20  # rows at a time where a whole column more would be felt


def _pairs(rows: Values) -> list[tuple[int, int]]:
    """Kind and code of the metrics in these rows."""
    return [(one % 8, one // 8) for one in _different(rows.metric.astype("i4") * 8 + rows.kind)]


def _once(rows: Rows) -> slice | npt.NDArray[np.intp]:
    """Rows without those that one process said twice (several GPUs): the last of each counts."""
    key = _key(rows)
    rising = True
    for one in _different(key):
        iteration = rows.iteration[key == one]
        rising = rising and bool((iteration[1:] > iteration[:-1]).all())
    if rising:
        return slice(None)
    order = np.lexsort((np.arange(len(rows)), rows.iteration, key))
    last = np.ones(len(rows), bool)
    last[:-1] = (key[order][1:] != key[order][:-1]) | (rows.iteration[order][1:] != rows.iteration[order][:-1])
    kept: npt.NDArray[np.intp] = np.sort(order[last])
    return kept


def _replaced(earlier: _Kept, later: _Kept, start: int) -> _Kept:
    """At the iteration of the resume the later session wins, value by value."""
    there = np.flatnonzero(earlier.rows.iteration == start)
    again = later.rows[later.rows.iteration == start]
    said = set(zip(again.kind.tolist(), again.net.tolist(), again.metric.tolist(), strict=True))
    old = earlier.rows[there]
    gone = [one in said for one in zip(old.kind.tolist(), old.net.tolist(), old.metric.tolist(), strict=True)]
    if not any(gone):
        return earlier
    keep = np.ones(len(earlier.rows), bool)
    keep[there[gone]] = False
    return _Kept(earlier.session, earlier.rows[keep], earlier.seconds[keep], earlier.epochs[keep])


def _labels(parts: Sequence[_Kept], metrics: Sequence[Metric]) -> dict[tuple[int, int], str]:
    """Names by kind and code: the train net's output ``loss`` is ``batch_loss``, values of a vector are numbered."""
    pairs = {pair for part in parts for pair in _pairs(part.rows)}
    labels = {(kind, code): metrics[code].name for kind, code in pairs}
    by_name: dict[tuple[int, str], list[int]] = {}
    for kind, code in sorted(pairs):
        by_name.setdefault((kind, metrics[code].name), []).append(code)
        if kind == TRAIN and metrics[code].name == "loss":
            labels[kind, code] = "batch_loss"
    for (kind, name), codes in by_name.items():
        if len({metrics[code].index for code in codes}) < 2:
            continue
        for part in parts:
            mine = [
                np.unique(part.rows.iteration[(part.rows.kind == kind) & (part.rows.metric == one)]) for one in codes
            ]
            if len(np.unique(np.concatenate(mine))) < sum(map(len, mine)):
                indexes = sorted({metrics[code].index for code in codes})
                labels.update({(kind, code): f"{name}[{indexes.index(metrics[code].index)}]" for code in codes})
                break
    return labels


def _empty() -> pl.DataFrame:
    return _frame("", 0, Values.none(), np.empty(0), np.empty(0), {})


def _frame(
    name: str, session: int, rows: Values, seconds: Floats, epochs: Floats, labels: Mapping[tuple[int, int], str]
) -> pl.DataFrame:
    import polars as pl

    count = len(rows)
    codes = (rows.kind.astype("i4") << 16) | rows.metric.astype("i4")
    said = pl.Series("code", codes)
    names = {(kind << 16) | code: label for (kind, code), label in labels.items()}
    phase = pl.Series("kind", rows.kind == TEST)
    return pl.DataFrame(
        {
            "run": pl.repeat(name, count, dtype=pl.String, eager=True),
            "test": phase,
            "net": pl.Series(rows.net.astype("i4")),
            "iteration": pl.Series(rows.iteration),
            "epoch": pl.Series(np.round(epochs, 6), nan_to_null=True),
            "seconds": pl.Series(np.round(seconds, 3), nan_to_null=True),
            "session": pl.repeat(session, count, dtype=pl.Int32, eager=True),
            "lr": pl.Series(rows.lr, nan_to_null=True),
            "metric": said.replace_strict(names, return_dtype=pl.String) if names else said.cast(pl.String),
            "value": pl.Series(rows.value),
        }
    ).select(
        "run",
        pl.when("test").then(pl.lit("test")).otherwise(pl.lit("train")).alias("phase"),
        pl.when("test").then("net").alias("net"),
        pl.exclude("run", "test", "net"),
    )
