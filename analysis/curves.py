"""Sessions in true order to the long table: rolled-back rows dropped, time and epochs summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caffebench.analysis.model import COLUMNS, Session
from caffebench.analysis.scan import LR, NO_TIME, TEST, TRAIN, Metric, Rows
from caffebench.analysis.stitch import Piece, snapshot_times

if TYPE_CHECKING:
    import polars as pl

__all__ = ["stitch"]

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

    def add(self, start: int, iterations: Ints, seconds: Floats, images: Floats) -> None:
        """Put a session's points in place of what it rolled back."""
        keep = self.iterations < start
        order = np.argsort(iterations, kind="stable")
        self.iterations = np.concatenate([self.iterations[keep], iterations[order]])
        self.seconds = np.concatenate([self.seconds[keep], seconds[order]])
        self.images = np.concatenate([self.images[keep], images[order]])


def _clock(piece: Piece) -> Floats:
    """Seconds of each row since training began in this session; NaN without a time. It never runs backwards."""
    time = piece.rows["time"]
    known = time != NO_TIME
    if not known.any():
        return np.full(len(time), np.nan)
    start = min((one.time for one in piece.marks if one.kind == "start" and one.time != NO_TIME), default=None)
    values = time.astype("f8")
    values[~known] = np.nan
    first = values[known][0]
    begin = first if start is None or start > first else float(start)
    seconds: Floats = (values - begin) / 1e6
    seconds[known] = np.maximum.accumulate(seconds[known])
    return seconds


def _lr(rows: Rows) -> Floats:
    """The learning rate at each row: of its iteration, else the last one before it, else the first."""
    said = rows[rows["kind"] == LR]
    if not len(said):
        return np.full(len(rows), np.nan)
    order = np.argsort(said["iteration"], kind="stable")
    place = np.searchsorted(said["iteration"][order], rows["iteration"], side="right") - 1
    values: Floats = said["value"][order][np.maximum(place, 0)]
    return values


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


def stitch(
    name: str,
    pieces: Sequence[Piece],
    sessions: Sequence[Session],
    metrics: Sequence[Sequence[Metric]],
    header: Mapping[str, Any],
    train_size: int | None,
) -> tuple[pl.DataFrame, float | None]:
    """The long table of a run and its training seconds; ``sessions`` get their lost iterations and seconds.

    ``metrics[i]`` are the names that the rows of ``pieces[i]`` refer to.
    """
    timeline = _Timeline()
    kept: list[dict[str, Any]] = []
    reached: tuple[int, Session] | None = None
    total: float | None = None
    for piece, session, names in zip(pieces, sessions, metrics, strict=True):
        rows = piece.rows
        if not len(rows):
            continue
        first = int(rows["iteration"].min())
        start = first if session.resumed_from is None else min(session.resumed_from, first)
        if session.resumed_from is None and piece.fresh:
            start = min(first, start)
        if reached is not None and reached[0] > start:
            lost = reached[0] - start
            reached[1].lost_iterations += lost
        clock = _clock(piece)
        has_start = piece.mark("start") is not None
        base_seconds = timeline.seconds_at(start if has_start else first)
        seconds = clock + base_seconds
        known = clock[~np.isnan(clock)]
        session.seconds = float(known.max()) if len(known) else 0.0
        images: Floats = timeline.images_at(start, session, header) + _batches(
            session, header, rows["iteration"], start
        )
        epochs = images / (train_size or np.nan)
        _drop(kept, start)
        kept.append(_columns(piece, session, names, seconds, epochs))
        marks = {k: v for k, v in snapshot_times(piece).items() if k >= start}
        extra = np.array(list(marks), "i8")
        zero = rows["time"][rows["time"] != NO_TIME]
        moments = np.array(list(marks.values()), "f8")
        if len(zero) and len(extra):
            offset = seconds[rows["time"] != NO_TIME][0] - zero[0] / 1e6
            extra_seconds = np.clip(moments / 1e6 + offset, 0, None)
        else:
            extra, extra_seconds = extra[:0], moments[:0]
        timeline.add(
            start,
            np.concatenate([rows["iteration"], extra]),
            np.concatenate([seconds, extra_seconds]),
            np.concatenate([images, images[:1] + _batches(session, header, extra, int(rows["iteration"][0]))]),
        )
        reached = (int(max(rows["iteration"].max(), *(marks or [0]))), session)
        if len(known):
            total = float(seconds[~np.isnan(seconds)].max())
    return _frame(name, kept), total


def _columns(
    piece: Piece, session: Session, names: Sequence[Metric], seconds: Floats, epochs: Floats
) -> dict[str, Any]:
    rows = piece.rows
    chosen = (rows["kind"] != LR) | ~np.isin(rows["iteration"], rows["iteration"][rows["kind"] != LR])
    kinds = rows["kind"]
    labels = _labels(rows, names)
    columns = {
        "kind": kinds,
        "metric": np.array([labels[int(kind), int(code)] for kind, code in _pairs(rows)], dtype=object)[_inverse(rows)]
        if len(rows)
        else np.array([], dtype=object),
        "net": rows["net"],
        "iteration": rows["iteration"],
        "epoch": epochs,
        "seconds": seconds,
        "session": np.full(len(rows), session.number),
        "lr": _lr(rows),
        "value": rows["value"],
    }
    return {key: value[chosen] for key, value in columns.items()}


def _keys(rows: Rows) -> npt.NDArray[np.int64]:
    keys: Ints = rows["kind"].astype("i8") * (1 << 16) + rows["metric"].astype("i8")
    return keys


def _pairs(rows: Rows) -> list[tuple[int, int]]:
    return [(int(key) >> 16, int(key) & 0xFFFF) for key in np.unique(_keys(rows))]


def _inverse(rows: Rows) -> npt.NDArray[np.intp]:
    return np.unique(_keys(rows), return_inverse=True)[1]


def _labels(rows: Rows, names: Sequence[Metric]) -> dict[tuple[int, int], str]:
    """Names of metrics: an output called ``loss`` of the train net is ``batch_loss``, a vector's are numbered."""
    labels: dict[tuple[int, int], str] = {}
    by_name: dict[tuple[int, str], list[int]] = {}
    for kind, code in _pairs(rows):
        name = names[code].name
        labels[kind, code] = "batch_loss" if kind == TRAIN and name == "loss" else name
        by_name.setdefault((kind, name), []).append(code)
    for (kind, name), codes in by_name.items():
        if len(codes) < 2 or len({names[code].index for code in codes}) < 2:
            continue
        mine = rows[rows["kind"] == kind]
        sets = [np.unique(mine["iteration"][mine["metric"] == code]) for code in codes]
        if len(np.unique(np.concatenate(sets))) < sum(map(len, sets)):
            order = sorted(codes, key=lambda code: names[code].index)
            for place, code in enumerate(order):
                labels[kind, code] = f"{name}[{place}]"
    return labels


def _drop(kept: list[dict[str, Any]], start: int) -> None:
    """Rows past the iteration that training resumed from are gone."""
    for columns in kept:
        keep = columns["iteration"] <= start
        if not keep.all():
            for key in columns:
                columns[key] = columns[key][keep]


def _frame(name: str, kept: list[dict[str, Any]]) -> pl.DataFrame:
    import polars as pl

    def column(key: str, dtype: Any) -> Any:
        return np.concatenate([one[key] for one in kept]) if kept else np.empty(0, dtype)

    kind = column("kind", "u1")
    net = column("net", "i2")
    frame = pl.DataFrame(
        {
            "run": pl.repeat(name, len(kind), eager=True),
            "phase": pl.Series(np.where(kind == TEST, "test", "train").astype(object), dtype=pl.String),
            "net": pl.Series(net.astype("i4")),
            "iteration": column("iteration", "i8"),
            "epoch": pl.Series(column("epoch", "f8"), nan_to_null=True),
            "seconds": pl.Series(column("seconds", "f8"), nan_to_null=True),
            "session": column("session", "i8").astype("i4"),
            "lr": pl.Series(column("lr", "f8"), nan_to_null=True),
            "metric": pl.Series(column("metric", object), dtype=pl.String),
            "value": column("value", "f8"),
        }
    )
    frame = frame.with_columns(
        pl.when(pl.col("phase") == "test").then("net"),
        pl.col("epoch").round(6),
        pl.col("seconds").round(3),
    )
    return frame.unique(["phase", "net", "metric", "iteration"], keep="last", maintain_order=True).select(COLUMNS)
