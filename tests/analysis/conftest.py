"""Logs of our own making, in the shape that real Caffe gives them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

SOLVER = """\
test_iter: 10
test_interval: 100
base_lr: 0.01
display: 20
max_iter: 1000
lr_policy: "fixed"
snapshot: 50
snapshot_prefix: "snapshots/net"
net_param {
  layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } data_param { batch_size: 32 } }
  layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST } data_param { batch_size: 36 } }
  layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 10 } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
}
"""


def session(
    first: int,
    last: int,
    *,
    pid: int = 100,
    at: datetime = datetime(2016, 4, 6, 4, 34, 53),
    resume: bool = False,
    header: bool = True,
    end: str = "",
    loss: Callable[[int], float] = lambda iteration: 2.3 / (1 + iteration / 100),
    years: bool = False,
) -> str:
    """What one process writes that trains from ``first`` to ``last``: one second an iteration, a display every 20."""
    lines = []

    def announce(seconds: float, message: str) -> None:
        now = at + timedelta(seconds=seconds)
        stamp = f"{now:%Y%m%d}" if years else f"{now:%m%d}"
        lines.append(f"I{stamp} {now:%H:%M:%S.%f} {pid:5d} solver.cpp:237] {message}")

    if header:
        announce(0, "Using GPUs 0")
        announce(0, "Initializing solver from parameters: ")
        lines.append(SOLVER.rstrip())
        if resume:
            announce(1, f"Resuming from snapshots/net_iter_{first}.solverstate")
        announce(2, "Starting Optimization")
    for iteration in range(first, last + 1, 10):
        since = 2 + iteration - first
        if iteration % 50 == 0 and iteration > first:
            announce(since, f"Snapshotting to binary proto file snapshots/net_iter_{iteration}.caffemodel")
        if iteration % 100 == 0:
            announce(since, f"Iteration {iteration}, Testing net (#0)")
            announce(since + 0.4, f"    Test net output #0: accuracy = {iteration / 1000:g}")
            announce(
                since + 0.4, f"    Test net output #1: loss = {loss(iteration):g} (* 1 = {loss(iteration):g} loss)"
            )
        if iteration % 20 == 0:
            announce(since + 0.5, f"Iteration {iteration}, loss = {loss(iteration):g}")
            announce(
                since + 0.5, f"    Train net output #0: loss = {loss(iteration):g} (* 1 = {loss(iteration):g} loss)"
            )
            announce(since + 0.5, f"Iteration {iteration}, lr = 0.01")
    if end:
        announce(2 + last - first + 1, end)
    return "\n".join(lines) + "\n"


@pytest.fixture
def make_session() -> Callable[..., str]:
    """``session`` above."""
    return session


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a log of a name into a folder of the test's own."""

    def writer(name: str, *texts: str | bytes) -> Path:
        path = tmp_path / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(one.encode() if isinstance(one, str) else one for one in texts))
        return path

    return writer


@pytest.fixture(scope="module")
def module_session() -> Callable[..., str]:
    """``session`` above, for fixtures of a whole module."""
    return session
