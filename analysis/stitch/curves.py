"""A run's surviving rows, still in columns: a log of gigabytes becomes a table some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from caffebench.analysis.read.columns import TEST, TRAIN, CurveRows, Metric
from caffebench.analysis.stitch.survivors import Survivors
from caffebench.common.extras import needs_extra

if TYPE_CHECKING:
    import polars as pl

    from caffebench.analysis.stitch.drawn import Drawn

__all__ = ["CHUNK", "Chunk", "RunCurves", "Score", "empty_frame"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


CHUNK = 1 << 16
"""Rows that are looked at together."""
_NETS = 1 << 16  # more than there are of them


class Chunk(NamedTuple):
    """Rows of a session, with their training seconds and epochs (NaN if not known)."""

    session: int
    rows: CurveRows
    seconds: Floats
    epochs: Floats


Chosen = Callable[[CurveRows], npt.NDArray[np.bool_]]


class Score(NamedTuple):
    """What the tests say of one metric of one net."""

    last: float
    best: float
    """The greatest value; NaN where none is a number."""
    best_iteration: int
    """The first iteration that reached it."""
    last_iteration: int
    """The iteration of the last test."""


@dataclass(frozen=True)
class RunCurves:
    """A run's surviving rows."""

    name: str
    metrics: Sequence[Metric]
    """By their ids."""
    parts: tuple[Survivors, ...]

    def __len__(self) -> int:
        """Number of rows."""
        return sum(len(one.rows) for one in self.parts)

    @property
    def _rows(self) -> list[CurveRows]:
        return [part.rows for part in self.parts]

    @cached_property
    def iteration(self) -> int | None:
        """The last iteration; None without a row."""
        return max((int(one.rows.iteration.max()) for one in self.parts), default=None)

    @cached_property
    def epochs(self) -> float | None:
        """Epochs at the last row; None if not known."""
        if not self.parts:
            return None
        last = self.parts[-1]
        epochs = float(last.clock.epochs(np.array([last.rows.iteration.max()]))[0])
        return None if np.isnan(epochs) else round(epochs, 6)

    @cached_property
    def pairs(self) -> list[tuple[int, int, int]]:
        """Kind, metric and net of the rows, each once, in the order of their first rows."""
        return list(dict.fromkeys(pair for part in self.parts for pair in part.rows.pairs()))

    @cached_property
    def labels(self) -> dict[tuple[int, int, int], str]:
        """Names of metrics by kind, code and net, in the order of ``pairs``.

        The train net's output ``loss`` is ``batch_loss``; of a name that several outputs of one net and iteration have,
        as the values of a vector do, each gets a number.
        """
        labels = {pair: self.metrics[pair[1]].name for pair in self.pairs}
        alike: dict[tuple[int, int, str], list[int]] = {}
        for (kind, code, net), name in labels.items():
            alike.setdefault((kind, net, name), []).append(code)
        for (kind, net, name), codes in alike.items():
            place = {index: at for at, index in enumerate(sorted({self.metrics[code].index for code in codes}))}
            for code in codes if len(place) > 1 and self._together(kind, net, codes) else ():
                labels[kind, code, net] = f"{name}[{place[self.metrics[code].index]}]"
            if kind == TRAIN and labels[kind, codes[0], net] == "loss":
                taken = (kind, net, "batch_loss") in alike
                labels.update({(kind, code, net): "batch_loss~2" if taken else "batch_loss" for code in codes})
        return labels

    def _together(self, kind: int, net: int, codes: Sequence[int]) -> bool:
        """Whether several of these are said at one iteration."""
        for rows in self._rows:
            mine = np.flatnonzero((rows.kind == kind) & (rows.net == net) & np.isin(rows.metric, codes))
            said = np.unique(np.column_stack([rows.iteration[mine], rows.metric[mine]]), axis=0)
            if len(np.unique(said[:, 0])) < len(said):
                return True
        return False

    def chunks(self, chosen: Chosen | None = None) -> Iterator[Chunk]:
        """All rows, or those that ``chosen`` (rows -> mask) takes, in order, at most ``CHUNK`` at a time."""
        for part in self.parts:
            for begin in range(0, len(part.rows), CHUNK):
                rows, seconds = part.rows[begin : begin + CHUNK], part.seconds[begin : begin + CHUNK]
                if chosen is not None:
                    keep = chosen(rows)
                    rows, seconds = rows[keep], seconds[keep]
                yield Chunk(part.session, rows, seconds, part.clock.epochs(rows.iteration))

    def named(self, phase: str, net: int | None = None) -> list[tuple[str, Metric]]:
        """Names of the metrics of ``phase`` (train or test), in the order of the log, with what is known of each.

        ``net`` is the number of a test net; None for all.
        """
        found: dict[str, Metric] = {}
        for (kind, code, of), name in self.labels.items():
            if (kind == TEST) == (phase == "test") and net in (None, of):
                found.setdefault(name, self.metrics[code])
        return list(found.items())

    @cached_property
    def scores(self) -> dict[tuple[str, int], Score]:
        """What the tests say, by metric and net."""
        tests = [rows[rows.kind == TEST] for rows in self._rows]
        every = CurveRows.joined(tests)
        names = {(code, net): (name, net) for (kind, code, net), name in self.labels.items() if kind == TEST}
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names.values()))}
        keys, of_row = np.unique(every.metric.astype("i8") * _NETS + every.net, return_inverse=True)
        number = np.array([numbers[names[divmod(key, _NETS)]] for key in keys.tolist()], "i8")[of_row]
        order = np.argsort(number, kind="stable")
        edges = np.searchsorted(number[order], np.arange(len(numbers) + 1)).tolist()
        found: dict[tuple[str, int], Score] = {}
        for name, (begin, end) in zip(numbers, pairwise(edges), strict=True):
            iterations, values = every.iteration[order[begin:end]], every.value[order[begin:end]]
            best = int(np.argmax(np.where(np.isnan(values), -np.inf, values)))
            found[name] = Score(float(values[-1]), float(values[best]), int(iterations[best]), int(iterations[-1]))
        return found

    def chosen(self, metric: str, phase: str, net: int | None) -> Chosen:
        """A function rows -> mask, of the rows of ``metric`` in ``phase``; of all nets where ``net`` is None."""
        pairs = [
            pair
            for pair, name in self.labels.items()
            if name == metric and (pair[0] == TEST) == (phase == "test") and net in (None, pair[2])
        ]

        def mine(rows: CurveRows) -> npt.NDArray[np.bool_]:
            found: npt.NDArray[np.bool_] = np.zeros(len(rows), bool)
            for kind, code, of in pairs:
                found |= (rows.kind == kind) & (rows.metric == code) & (rows.net == of)
            return found

        return mine

    def drawn(self, metric: str, phase: str, net: int | None = None) -> Drawn:
        """The curve of ``metric`` in ``phase`` (train or test) for pictures; of all nets where ``net`` is None."""
        from caffebench.analysis.stitch.drawn import drawn

        return drawn(self.chunks(self.chosen(metric, phase, net)), len(self))

    def points(self, metric: str, phase: str, net: int | None = None) -> tuple[Ints, Floats]:
        """Iterations (int64, n) and values (float64, n) of ``metric`` in ``phase``, in order; of all nets without
        ``net``."""
        chosen = self.chosen(metric, phase, net)
        found = [(rows.iteration[mine], rows.value[mine]) for rows in self._rows for mine in [chosen(rows)]]
        if len(found) == 1:
            return found[0]
        iterations, values = zip(*found, strict=True) if found else ((), ())
        return np.concatenate([np.empty(0, "i8"), *iterations]), np.concatenate([np.empty(0), *values])

    def frames(self, chosen: Chosen | None = None) -> Iterator[pl.DataFrame]:
        """The long table some rows at a time, or those that ``chosen`` (rows -> mask) takes; columns of ``frame``."""
        for chunk in self.chunks(chosen):
            if len(chunk.rows):
                yield _frame(self.name, chunk, self.labels)

    def frame(self, chosen: Chosen | None = None) -> pl.DataFrame:
        """The long table whole, the columns of ``curves.csv``, or the rows that ``chosen`` (rows -> mask) takes.

        ``run``, ``phase``, ``metric`` (text), ``net``, ``session`` (int32), ``iteration`` (int64), ``epoch``,
        ``seconds``, ``lr``, ``value`` (float64). Raises ``InputError`` where Polars is missing.
        """
        frames = [empty_frame(), *self.frames(chosen)]
        import polars as pl

        return pl.concat(frames)


def empty_frame() -> pl.DataFrame:
    """The long table without a row: its columns and their types."""
    return _frame("", Chunk(0, CurveRows.space(0), np.empty(0), np.empty(0)), {})


def _frame(name: str, chunk: Chunk, labels: Mapping[tuple[int, int, int], str]) -> pl.DataFrame:
    with needs_extra("frames", "tables in Python need Polars"):
        import polars as pl

    rows = chunk.rows
    count, tests = len(rows), rows.kind == TEST
    codes = pl.Series((rows.metric.astype("i8") * 8 + rows.kind) * _NETS + rows.net)
    names = {(code * 8 + kind) * _NETS + net: label for (kind, code, net), label in labels.items()}
    return pl.DataFrame(
        {
            "run": pl.repeat(name, count, dtype=pl.String, eager=True),
            "phase": pl.Series(tests).replace_strict({True: "test", False: "train"}, return_dtype=pl.String),
            "net": pl.Series(np.where(tests, rows.net, -1).astype("i4")).replace(-1, None),
            "iteration": pl.Series(rows.iteration),
            "epoch": pl.Series(np.round(chunk.epochs, 6), nan_to_null=True),
            "seconds": pl.Series(np.round(chunk.seconds, 3), nan_to_null=True),
            "session": pl.repeat(chunk.session, count, dtype=pl.Int32, eager=True),
            "lr": pl.Series(rows.lr, nan_to_null=True),
            "metric": codes.replace_strict(names or {-1: ""}, return_dtype=pl.String),
            "value": pl.Series(rows.value),
        }
    )
