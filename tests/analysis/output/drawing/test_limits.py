"""Axes that fit their curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from caffebench.analysis import read_runs
from caffebench.analysis.output.plots import View, draw_test_loss, draw_train_loss
from caffebench.analysis.runs.model import Run

Session = Callable[..., str]
Write = Callable[..., Path]
Loss = Callable[[int], float]


@pytest.fixture
def ax() -> Any:
    return Figure(figsize=(6, 4)).add_subplot()


@pytest.fixture
def runs(make_session: Session, write: Write) -> Callable[[Mapping[str, Loss]], list[Run]]:
    """Runs by their losses, up to 4,000 iterations."""

    def made(losses: Mapping[str, Loss]) -> list[Run]:
        paths = [write(f"{name}.log", make_session(0, 4000, loss=loss)) for name, loss in losses.items()]
        return read_runs(paths)

    return made


def _lines(ax: Any, kind: str = "curve") -> list[Any]:
    return [one for one in ax.lines if one.get_gid() == kind]


def _usual(at: int) -> float:
    return 2.3 * math.exp(-at / 800) + 0.3


def _fine(at: int) -> float:
    return _usual(at) / 2


def _untrained(at: int) -> float:
    """80 at first, as nets with batch normalisation are tested before they are trained."""
    return 80.0 if at == 0 else _usual(at)


@pytest.mark.parametrize("draw", [draw_test_loss, draw_train_loss])
@pytest.mark.parametrize(
    ("losses", "low", "high"),
    [
        ({"usual": _usual, "huge": lambda at: 1000 * math.exp(-at / 400)}, 2.5, 15),
        ({"one": lambda at: 1e9 * math.exp(-at / 100) + _usual(at), "two": _usual}, 2.5, 15),
        ({"one": _untrained, "two": _untrained}, 2, 3),
        ({"one": _untrained}, 2, 3),
    ],
)
def test_no_beginning_presses_a_curve_flat(
    runs: Callable[..., list[Run]], ax: Any, draw: Callable[..., Any], losses: dict[str, Loss], low: float, high: float
) -> None:
    draw(ax, runs(losses))
    assert low < ax.get_ylim()[1] < high
    assert 0 in [mark.get_xdata()[0] for mark in _lines(ax, "runaway")]


def test_one_value_out_of_few_presses_no_curve_flat(runs: Callable[..., list[Run]], ax: Any) -> None:
    draw_test_loss(ax, runs({"spike": lambda at: 1e30 if at == 2000 else _usual(at)}))
    assert 2.5 < ax.get_ylim()[1] < 3
    (mark,) = _lines(ax, "runaway")
    assert mark.get_xdata().tolist() == [2000]


@pytest.mark.parametrize("draw", [draw_test_loss, draw_train_loss])
@pytest.mark.parametrize(
    "losses",
    [
        {"usual": _usual, "half": _fine},
        {"usual": _usual, "tiny": lambda at: _usual(at) / 1000},  # no picture could show both
        {"steep": lambda at: 7 * math.exp(-at / 80) + 1},
        {"late": lambda at: _usual(at) + max(0, at - 3500) / 20},
        {"below": lambda at: _usual(at) - 5},
        {"through": lambda at: _usual(at) - 1.5, "usual": _usual},
        {"nothing": lambda _: 0.0},
        {"usual": lambda at: _usual(at) - 0.3 if at < 2000 else 0.0, "at once": lambda at: 0.0 if at else 2.0},
    ],
)
def test_ordinary_curves_are_seen_as_they_are(
    runs: Callable[..., list[Run]], ax: Any, draw: Callable[..., Any], losses: dict[str, Loss]
) -> None:
    draw(ax, runs(losses))
    low, high = ax.get_ylim()
    values = np.concatenate([line.get_ydata() for line in _lines(ax)])
    assert low <= values.min() <= values.max() <= high
    assert not _lines(ax, "runaway")


def test_a_logarithmic_axis_shows_the_beginning(runs: Callable[..., list[Run]], ax: Any) -> None:
    losses = {"usual": _usual, "huge": lambda at: 1000 * math.exp(-at / 400)}
    draw_train_loss(ax, runs(losses), View(log_y=True))
    assert ax.get_ylim()[1] > 900
