"""Thinning loses no spike, smoothing loses no hole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffebench.analysis.output.drawing.downsample import downsample, smooth

VALUES = st.lists(st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf])), max_size=400)


@given(VALUES, st.lists(st.integers(0, 50), max_size=400), st.integers(1, 20), st.booleans())
def test_each_bucket_keeps_its_first_last_least_and_greatest(
    values: list[float], steps: list[int], buckets: int, log: bool
) -> None:
    size = min(len(values), len(steps))
    x, y = np.cumsum(steps[:size], dtype="f8"), np.array(values[:size], "f8")
    kept = downsample(x, y, buckets, log=log)
    assert (np.diff(kept) > 0).all()
    assert len(kept) <= max(5 * buckets, min(size, 4 * buckets))
    if not size:
        return
    assert {0, size - 1} <= set(kept.tolist())
    finite = y[~np.isnan(y)]
    if len(finite):
        assert y[kept][~np.isnan(y[kept])].min() == finite.min()
        assert y[kept][~np.isnan(y[kept])].max() == finite.max()
    assert np.isnan(y).any() == np.isnan(y[kept]).any()


def test_a_million_points_with_one_spike_of_one_point() -> None:
    x, y = np.arange(1e6), np.sin(np.arange(1e6) / 1e5)
    y[654_321], y[123_456] = 40, -40
    kept = set(downsample(x, y, 1000).tolist())
    assert {654_321, 123_456} <= kept
    assert len(kept) <= 4000


def test_on_a_logarithmic_axis_the_beginning_keeps_its_points() -> None:
    x, y = np.arange(100_000.0), np.random.default_rng(0).normal(size=100_000)
    early = [(downsample(x, y, 500, log=log) < 100).sum() for log in (False, True)]
    assert early[0] < 10 < 100 == early[1]


def test_no_buckets_and_no_window_are_refused() -> None:
    with pytest.raises(ValueError, match="buckets is 0"):
        downsample([1], [1], 0)
    with pytest.raises(ValueError, match="window is 0"):
        smooth([1], 0)


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf])), max_size=80), st.integers(1, 30))
def test_smoothed_is_the_mean_of_the_numbers_around(values: list[float], window: int) -> None:
    means, half = smooth(values, window), window // 2
    assert len(means) == len(values)
    for place, mean in enumerate(means):
        near = np.array(values[max(0, place - half) : place + half + 1])
        near = near[np.isfinite(near)]
        if len(near):
            assert mean == pytest.approx(near.mean(), rel=1e-6, abs=1e-6)
        else:
            assert np.isnan(mean)


@pytest.mark.parametrize(
    "values",
    [
        np.where(np.arange(500) == 200, 1e30, 2 * 0.99 ** np.arange(500)),  # one value is not like the others
        np.geomspace(1e9, 1e-6, 500),
        np.where(np.arange(500) < 250, -1e12, np.geomspace(1, 1e-9, 500)),
    ],
)
@pytest.mark.parametrize("window", [5, 8, 101, 10**12])
def test_a_large_value_drowns_none_outside_its_window(values: np.ndarray, window: int) -> None:
    means, half = smooth(values, window), window // 2
    expected = [values[max(0, place - half) : place + half + 1].mean() for place in range(len(values))]
    np.testing.assert_allclose(means, expected, rtol=1e-12)
