"""``run-caffe --layers fast``: the same training within rounding, the same to the bit after a stop."""

from __future__ import annotations

import re
import signal
from typing import Any

import pytest

from caffebench.engine import fast
from caffebench.engine.features import caffe_is_there

pytestmark = [
    pytest.mark.caffe,
    pytest.mark.skipif(
        not (caffe_is_there() and fast.is_built()), reason="no Caffe with fast layers beside it: run install-caffe"
    ),
]


def accuracy(bench: Any, session: int = 1) -> float:
    """The last one in a session's log."""
    return float(re.findall(r"accuracy = ([\d.]+)", bench.log(session))[-1])


@pytest.mark.parametrize("threads", [1, 2])
def test_stopped_and_resumed_to_the_bit(bench: Any, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    solver = bench.solver(max_iter=600, snapshot=150, init="lsuv")
    bench.run(solver, "--layers", "fast", "--snapshots", "whole", "--logs", "whole")
    launcher = bench.start(solver, "--layers", "fast")
    bench.wait_for("Iteration 260 ")
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(30) == 3
    bench.run(solver, "--layers", "fast")
    assert bench.weights(600) == bench.weights(600, snapshots="whole")
    assert '"layers": "fast"' in bench.log()


def test_learns_what_caffes_own_layers_learn(bench: Any) -> None:
    found = {}
    for layers in ("caffe", "fast"):
        bench.run(bench.solver(max_iter=300, snapshot=0), "--layers", layers, "--fresh")
        assert f'"layers": "{layers}"' in bench.log()
        found[layers] = accuracy(bench), bench.weights(300)
    assert found["fast"][1] != found["caffe"][1]  # they did compute otherwise
    assert found["fast"][0] > 0.9
    assert found["fast"][0] == pytest.approx(found["caffe"][0], abs=0.03)
