"""The mean curve of runs that differ in their seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from caffebench.analysis import read_runs
from caffebench.analysis.output.plots import (
    View,
    draw_learning_rate,
    draw_test_accuracy,
    draw_test_loss,
    draw_train_loss,
)
from caffebench.analysis.runs.groups import group_runs

Session = Callable[..., str]
Write = Callable[..., Path]
Loss = Callable[[int], float]


def _lines(ax: Any, kind: str = "curve") -> list[Any]:
    return [one for one in ax.lines if one.get_gid() == kind]


def _legend(ax: Any) -> list[str]:
    return [one.get_text() for one in ax.get_legend().get_texts()]


@pytest.fixture
def seeds(make_session: Session, write: Write) -> Callable[..., Any]:
    """Draws the mean of runs that differ in their seed and whose tests and losses are ``losses``, until ``lasts``."""

    def drawn(
        draw: Callable[..., Any],
        losses: list[Loss],
        lasts: list[int],
        view: View | None = None,
        change: Callable[[int, str], str] = lambda _, text: text,
    ) -> Any:
        for seed, (loss, last) in enumerate(zip(losses, lasts, strict=True), 1):
            text = make_session(0, last, loss=loss).replace("base_lr", f"random_seed: {seed}\nbase_lr")
            path = write(f"net_s{seed}.log", change(seed, text))
        (group,) = group_runs(read_runs([path.parent], train_size=3200))
        assert len(group.runs) == len(losses)
        return draw(Figure().add_subplot(), [group], view or View())

    return drawn


def _constants(*values: float) -> list[Loss]:
    def constant(value: float) -> Loss:
        return lambda _: value

    return [constant(value) for value in values]


def test_a_seed_that_died_early_does_not_end_the_mean(seeds: Callable[..., Any]) -> None:
    ax = seeds(draw_test_loss, _constants(0.25, 0.5, 1.5), [400, 400, 20])
    (line,) = _lines(ax)
    assert line.get_xdata().tolist() == [0, 100, 200, 300, 400]
    assert line.get_ydata().tolist() == [0.75, 0.375, 0.375, 0.375, 0.375]
    assert _legend(ax)[0] == "0.375 ± 0.177  net_s (2 of 3)"


def test_the_mean_ends_where_less_than_half_of_the_seeds_are(seeds: Callable[..., Any]) -> None:
    ax = seeds(draw_train_loss, _constants(0.25, 0.5, 0.75, 1), [400, 300, 200, 200], View(window=1))
    assert _lines(ax)[0].get_xdata()[-1] == 300


def test_the_band_ends_where_one_seed_is_left(seeds: Callable[..., Any]) -> None:
    ax = seeds(draw_train_loss, _constants(0.25, 0.75), [400, 200], View(window=1))
    points = dict(zip(*_lines(ax)[0].get_data(), strict=True))
    assert points == {at: 0.5 if at <= 200 else 0.25 for at in range(0, 401, 20)}
    (band,) = [one for one in ax.collections if one.get_gid() == "band"]
    assert max(x for path in band.get_paths() for x, _ in path.vertices) == 200
    assert _legend(ax)[0] == "0.250  net_s (1 of 2)"


def test_no_seed_is_drawn_as_the_group(seeds: Callable[..., Any]) -> None:
    """The iterations of the seeds have none in common."""

    def change(seed: int, text: str) -> str:
        return text if seed == 1 else text.replace("Iteration ", "Iteration 1")  # 0 is 10, 20 is 120

    ax = seeds(draw_train_loss, _constants(0.25, 0.75), [80, 80], View(window=1), change)
    points = dict(zip(*_lines(ax)[0].get_data(), strict=True))
    assert set(points) == {*range(0, 81, 20), 10, 120, 140, 160, 180}
    assert (points[0], points[10], points[80], points[120]) == (0.25, 0.5, 0.5, 0.75)


def test_a_hole_of_one_seed_is_none_of_the_mean(seeds: Callable[..., Any]) -> None:
    losses: list[Loss] = [lambda at: math.nan if at in (100, 200) else 0.25, lambda at: math.nan if at == 100 else 0.75]
    (line,) = _lines(seeds(draw_test_loss, losses, [400, 400]))
    assert line.get_xdata().tolist() == [0, 100, 200, 300, 400]
    np.testing.assert_array_equal(line.get_ydata(), [0.5, math.nan, 0.75, 0.5, 0.5])


@pytest.mark.parametrize("x", ["iteration", "epoch", "seconds"])
def test_the_mean_does_not_go_back_where_a_slow_seed_ends(
    seeds: Callable[..., Any], make_session: Session, x: str
) -> None:
    def slower(seed: int, text: str) -> str:
        if seed > 1:
            return text
        lines = []
        for line in text.splitlines():
            if line.startswith("I0406 "):
                moment = datetime.strptime(line[6:21], "%H:%M:%S.%f")
                start = moment.replace(hour=4, minute=34, second=53, microsecond=0)
                line = f"{line[:6]}{start + 3 * (moment - start):%H:%M:%S.%f}{line[21:]}"
            lines.append(line)
        return "\n".join(lines) + "\n"

    ax = seeds(draw_train_loss, _constants(0.25, 0.5), [200, 400], View(x, window=1), slower)
    along = _lines(ax)[0].get_xdata()
    steps = np.diff(along)
    assert (steps > 0).all()
    expected = {"iteration": (20, 20), "epoch": (0.2, 0.2), "seconds": (40, 20)}[x]
    unit = 60 if "minutes" in ax.get_xlabel() else 1
    assert (steps[1] * unit, steps[-1] * unit) == pytest.approx(expected, rel=1e-3)


def test_accuracy_and_rate_have_the_same_mean(seeds: Callable[..., Any]) -> None:
    for draw in (draw_test_accuracy, draw_learning_rate):
        ax = seeds(draw, _constants(0.25, 0.5, 0.75), [400, 400, 20])
        assert _lines(ax)[0].get_xdata()[-1] == 400
        low, high = ax.get_ylim()
        assert low < _lines(ax)[0].get_ydata()[-1] < high
