"""``run-caffe --layers``: the same training within rounding, the same to the bit after a stop, kept by a resume."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caffebench.engine import fast
from caffebench.engine.features import caffe_is_there
from caffebench.launcher.plan.options import RunOptions
from caffebench.launcher.plan.planning import make_plans
from caffebench.launcher.run.resources import choose_layers
from caffebench.launcher.state import record
from caffebench.launcher.state.record import read_record

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
    bench.run(solver, "--snapshots", "whole", "--logs", "whole")
    launcher = bench.start(solver)
    bench.wait_for("Iteration 260 ")
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(30) == 3
    bench.run(solver)
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


def test_a_run_keeps_the_layers_it_began_with(bench: Any) -> None:
    solver = bench.solver(max_iter=200, snapshot=100)
    bench.run(solver, "--layers", "caffe", "--snapshots", "whole", "--logs", "whole")
    bench.run(solver, "--layers", "caffe", "--max-iter", "100")
    said = bench.run(solver)
    assert '"layers": "caffe"' in bench.log(2)
    assert "layers" not in said
    assert bench.weights(200) == bench.weights(200, snapshots="whole")


def test_other_layers_on_the_way_are_reported(bench: Any) -> None:
    solver = bench.solver(max_iter=200, snapshot=100)
    bench.run(solver, "--max-iter", "100")
    said = bench.run(solver, "--layers", "caffe")
    assert "the fast layers computed it up to iteration 100, Caffe's own layers do from there on" in said
    assert '"layers": "caffe"' in bench.log(2)
    assert "layers: fast -> caffe" in bench.log(2)
    assert "layers" not in bench.run(solver, "--max-iter", "300")  # and kept from there on
    assert '"layers": "caffe"' in bench.log(3)


def test_a_record_of_before_there_was_a_choice(bench: Any) -> None:
    solver = bench.solver(max_iter=200, snapshot=100)
    bench.run(solver, "--layers", "caffe", "--max-iter", "100")
    path = bench.folder / "snapshots" / "small_iter_100.json"
    content = json.loads(path.read_text())
    del content["layers"], content[record.OWN_SUM]
    path.write_text(json.dumps({**content, record.OWN_SUM: record._own_sum(content)}))
    bench.run(solver)
    assert '"layers": "caffe"' in bench.log(2)


def test_chosen_from_the_plan_and_the_record(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = bench.solver(max_iter=200, snapshot=100)
    bench.run(solver, "--layers", "caffe", "--max-iter", "100")
    monkeypatch.chdir(bench.folder)
    [plan] = make_plans(RunOptions((Path(solver),), cpu=True)).plans
    assert plan.layers is None
    assert choose_layers(plan, None) == "fast"
    assert choose_layers(plan, read_record(bench.folder / "snapshots" / "small_iter_100.json")) == "caffe"
    assert choose_layers(replace(plan, gpus=(0,)), None) == "caffe"
