"""Curves of millions of points, made smaller before they are drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from matplotlib.figure import Figure

from caffebench.analysis import read_runs
from caffebench.analysis.output.plots import draw_learning_rate, draw_train_loss
from caffebench.analysis.output.report import report_data
from caffebench.analysis.stitch import drawn

Session = Callable[..., str]
Write = Callable[[str, str], Path]


@pytest.fixture
def run(make_session: Session, write: Write) -> Any:
    def loss(at: int) -> float:
        return 9.0 if at == 33_340 else 0.25 if at == 60_020 else 3.0 - at / 1e5 + (at // 20 % 2) / 10

    return read_runs([write("net.log", make_session(0, 100_000, loss=loss))])[0]


@pytest.fixture
def small() -> Any:
    """Treats every run as one of millions of rows, in groups of some fifty."""
    with mock.patch.multiple(drawn, MANY=1000, GROUPS=200):
        yield


def test_groups_keep_their_extremes_and_give_their_mean(run: Any, small: None) -> None:
    whole = run.curve("loss", "train")
    made = run.drawn("loss", "train")
    assert made.count == len(whole) == 5001
    assert made.group > 20
    assert len(made.envelope) < len(whole) / 5
    assert len(made.group_means) < len(whole) / 20
    said = dict(zip(whole["iteration"].to_list(), whole["value"].to_list(), strict=True))
    shown = dict(zip(made.envelope.iteration.tolist(), made.envelope.value.tolist(), strict=True))
    assert shown.items() <= said.items(), "a point that the log does not hold"
    assert (shown[33_340], shown[60_020]) == (9.0, 0.25)
    assert {0, 100_000} <= shown.keys()
    first = [said[at] for at in range(0, 20 * made.group, 20)]
    assert made.group_means.value[0] == pytest.approx(np.mean(first))
    assert (np.diff(made.envelope.iteration) > 0).all()


def test_a_long_curve_looks_like_itself(run: Any) -> None:
    def smoothed() -> Any:
        (line,) = (one for one in draw_train_loss(Figure().add_subplot(), [run]).lines if one.get_gid() == "curve")
        return line.get_data()

    exact = smoothed()
    with mock.patch.multiple(drawn, MANY=1000, GROUPS=1000):
        x, y = smoothed()
    np.testing.assert_allclose(np.interp(x, *exact)[20:-20], y[20:-20], atol=0.15)  # the spike


def test_the_page_and_the_rates_of_a_long_curve(run: Any) -> None:
    with mock.patch.multiple(drawn, MANY=1000, GROUPS=1000):
        data = report_data([run])
    loss = next(one for one in data["metrics"] if one["title"] == "train loss")["curves"][0]
    assert max(loss["value"]) == 9.0
    assert len(loss["means"]["value"]) > 50
    assert data["thinned"]
    json.dumps(data, allow_nan=False)
    (line,) = (one for one in draw_learning_rate(Figure().add_subplot(), [run]).lines if one.get_gid() == "curve")
    assert set(line.get_ydata()) == {0.01}


def test_holes_stay_holes() -> None:
    values = np.array([1.0, np.nan, 3.0, np.nan, np.nan, np.nan, 2.0, 8.0])
    starts = np.array([0, 3, 6])
    assert drawn.extremes(values, starts).tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert repr(drawn._means(values, starts).tolist()) == "[2.0, nan, 5.0]"
