"""A run that ends in nan is not converged, whenever that happened, and leaves no snapshot to resume from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffebench.engine.locate import caffe_pb2


def fixed(bench: Any, **values: object) -> Path:
    solver: Path = bench.solver(**{"base_lr": 1e9, "lr_policy": "fixed", "test_interval": 1000, **values})
    return solver


def first_bad(bench: Any) -> int:
    """The iteration at which the loss of that solver stops being a number."""
    bench.run(fixed(bench, display=1, max_iter=100, snapshot=0), "--logs", "probe", "--snapshots", "probe", code=1)
    log = (bench.folder / "probe/small.001.log").read_text()
    return int(re.findall(r"the loss is \S+ at iteration (\d+)", log)[0])


@pytest.mark.parametrize("display", [0, 7, 1000])
@pytest.mark.parametrize("after", [1, 2, 5])
def test_nan_between_the_last_display_and_the_end(bench: Any, display: int, after: int) -> None:
    at = first_bad(bench)
    solver = fixed(bench, display=display, max_iter=at + after, snapshot=0)
    error = bench.run(solver, code=1)
    assert re.search(r"small: not converged at iteration \d+, the (loss is|weights of layer \S+ are not)", error)
    assert not list((bench.folder / "snapshots").glob("small_iter_*"))
    again = bench.run(solver, code=1)
    assert "finished before" not in again
    assert "--keep-going trains it on, --fresh starts it over" in again
    assert not bench.log(2)


def test_bad_after_the_last_iteration_alone(bench: Any) -> None:
    """The loss of every iteration was a number, but what came of the last update is of no use."""
    at = first_bad(bench)
    error = bench.run(fixed(bench, display=1000, max_iter=at, snapshot=at), code=1)
    assert f"small: not converged at iteration {at}, the " in error
    assert not list((bench.folder / "snapshots").glob("small_iter_*"))


def test_a_snapshot_of_bad_weights_is_not_kept(bench: Any) -> None:
    bench.run(fixed(bench, display=1000, max_iter=1000, snapshot=1), "--keep-going", code=1)
    assert "Snapshotting to binary proto file snapshots/.partial/small_iter_100.caffemodel" in bench.log()
    kept = list((bench.folder / "snapshots").glob("*.caffemodel"))
    assert 0 < len(kept) < 10
    for path in kept:
        net = caffe_pb2().NetParameter.FromString(path.read_bytes())
        assert all(np.isfinite(blob.data).all() for layer in net.layer for blob in layer.blobs)
    assert not list((bench.folder / "snapshots/.partial").glob("*.caffemodel"))


def test_a_last_test_that_is_no_number(bench: Any) -> None:
    """All weights are fine and so is the training loss: only the test overflows."""
    solver = bench.solver(max_iter=20, snapshot=0, test_interval=1000)
    text = (bench.folder / solver).read_text()
    first, second = text.split("mean_value: 78 scale: 0.02", 1)
    second = second.replace("mean_value: 78 scale: 0.02", "scale: 3e38", 1)
    (bench.folder / solver).write_text(f"{first}mean_value: 78 scale: 0.02{second}")
    error = bench.run(solver, code=1)
    assert "small: not converged at iteration 20, the loss of the last test, at iteration 20, is not a finite" in error
    assert not list((bench.folder / "snapshots").glob("small_iter_*"))


def test_the_loss_is_watched_where_nothing_is_displayed(bench: Any) -> None:
    solver = bench.solver(display=0, base_lr=30, lr_policy="fixed", max_iter=4000, snapshot=0, test_interval=4000)
    error = bench.run(solver, code=1)
    assert "small.prototxt has display: 0, so its log has no training curve; its loss is watched every 40" in error
    assert re.search(r"not converged at iteration \d+, the loss", error)
