"""Runs that nobody looks after: time limits, divergence, crashes, and what is worth another try."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import lmdb
import pytest

from caffebench.analysis import read_runs
from caffebench.common.errors import InputError
from caffebench.common.glog import glog_line
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.plan.planning import parse_duration
from caffebench.launcher.run.divergence import Divergence, chance_loss
from caffebench.launcher.run.failures import explain
from caffebench.launcher.show.logtail import LogTail
from caffebench.launcher.show.row import Row, duration
from caffebench.launcher.solver.solverfile import parse_solver
from caffebench.launcher.state.paths import RunPaths


def test_a_time_limit_stops_in_time_with_a_snapshot(bench: Any) -> None:
    solver = bench.solver(max_iter=1000000, snapshot=0, test_interval=100000)
    error = bench.run(solver, "--time-limit", "4s", code=3)
    lines = [line.split()[1] for line in bench.log().splitlines() if "] caffebench: " in line]
    start, end = (datetime.strptime(line, "%H:%M:%S.%f") for line in (lines[0], lines[-1]))
    assert (end - start).seconds < 4
    assert "small: stopped at iteration" in error
    assert "the time limit is reached" in error
    assert len(list((bench.folder / "snapshots").glob("small_iter_*.solverstate"))) == 1
    # started again it resumes there
    assert "training from iteration" in bench.run(solver, "--time-limit", "2s", code=3)


def test_a_diverged_run_is_given_up(bench: Any) -> None:
    solver = bench.solver(base_lr=1e6, max_iter=200000, snapshot=0, test_interval=100000)
    error = bench.run(solver, code=1)
    assert "small: not converged at iteration" in error
    assert "the loss is " in error
    assert not list((bench.folder / "snapshots").glob("small_iter_*"))
    assert '"status": "not_converged"' in bench.log()
    again = bench.run(solver, code=1)
    assert "--keep-going trains it on, --fresh starts it over" in again
    assert not bench.log(2)
    bench.run(bench.solver(base_lr=1e6, max_iter=1000, snapshot=0), "--keep-going", code=1)
    assert "Iteration 980 " in bench.log(2)
    assert '"status": "not_converged", "iteration": 1000' in bench.log(2)
    assert not list((bench.folder / "snapshots").glob("small_iter_*"))


def test_rules_of_divergence() -> None:
    def look(losses: list[float], chance: float | None = math.log(10), max_iter: int = 1000) -> str | None:
        divergence = Divergence(chance, max_iter)
        return next(filter(None, (divergence.update(20 * n, loss) for n, loss in enumerate(losses))), None)

    assert look([2.3] * 1000) is None, "a plateau at the loss of guessing may still end"
    assert look([2.3, math.nan]) == "the loss is nan at iteration 20"
    assert look([2.3, math.inf]) == "the loss is inf at iteration 20"
    assert look([2.3, 87.3365, 87.3365]) is None
    assert "dead softmax" in str(look([2.3, 87.3365, 87.3365, 87.3365]))
    assert look([60.0] * 19 + [2.0] + [60.0] * 19) is None, "a rise that comes down again"
    assert "over 3 times that of guessing (2.303) since iteration 0" in str(look([60.0] * 20))
    assert look([60.0] * 20, max_iter=100000) is None, "a short time in a long run"
    assert look([60.0] * 1000, chance=None) is None


def test_the_loss_of_guessing(bench: Any) -> None:
    text = (bench.folder / bench.solver()).read_text()
    assert chance_loss(parse_solver(text, "x")) == pytest.approx(math.log(10))
    half = text.replace('top: "loss" }', 'top: "loss" loss_weight: 0.5 }')
    assert half != text
    assert chance_loss(parse_solver(half, "x")) == pytest.approx(math.log(10) / 2)


EUCLIDEAN = (
    'layer { name: "eu" type: "EuclideanLoss" bottom: "fc1" bottom: "fc1" top: "eu" include { phase: TRAIN } }\n'
)


@pytest.mark.parametrize(
    ("old", "new", "known"),
    [
        ('top: "loss" }', 'top: "loss" loss_param { normalization: VALID } }', True),
        ('top: "loss" }', 'top: "loss" loss_param { normalize: true } }', True),
        ('top: "loss" }', 'top: "loss" loss_param { normalize: false } }', False),
        ('top: "loss" }', 'top: "loss" loss_param { normalization: NONE } }', False),
        ('top: "loss" }', 'top: "loss" loss_param { normalization: FULL normalize: false } }', True),
        ('"SoftmaxWithLoss"', '"HingeLoss"', False),
        ('layer { name: "loss"', EUCLIDEAN + 'layer { name: "loss"', False),
        ('layer { name: "loss"', EUCLIDEAN.replace("TRAIN", "TEST") + 'layer { name: "loss"', True),
        (
            'layer { name: "loss"',
            EUCLIDEAN.replace('top: "eu"', 'top: "eu" loss_weight: 0') + 'layer { name: "loss"',
            True,
        ),
        ('bottom: "fc1" top: "fc1" }', 'bottom: "fc1" top: "fc1" loss_weight: 0.1 }', False),
    ],
)
def test_the_loss_of_guessing_is_known_where_all_losses_are_means_of_a_softmax(
    bench: Any, old: str, new: str, known: bool
) -> None:
    text = (bench.folder / bench.solver()).read_text()
    assert old in text
    found = chance_loss(parse_solver(text.replace(old, new, 1), "x"))
    assert found == (pytest.approx(math.log(10)) if known else None)


def test_a_second_task_with_a_large_loss_is_trained_to_its_end(bench: Any) -> None:
    solver = bench.solver(max_iter=200, base_lr="1e-9")
    path = bench.folder / solver
    far = 'layer { name: "far" type: "Power" bottom: "fc2" top: "far" power_param { shift: 100 } }'
    loss = 'layer { name: "eu" type: "EuclideanLoss" bottom: "far" bottom: "fc2" top: "eu" }'
    text = path.read_text().replace('top: "loss" }', f'top: "loss" }}\n{far}\n{loss}')
    path.write_text(text)
    assert "small: done at iteration 200" in bench.run(solver)
    (run,) = read_runs([bench.folder / "logs"])
    assert run.stitched.points("loss", "train")[1].min() > 1000
    assert run.status == "done"


CHECK = "F20261121 03:50:02.245851 10633 io.cpp:36] Check failed: fd != -1 (-1 vs. -1) File not found: x\n"
CUDA = "F20261121 03:50:02.245851 10633 syncedmem.cpp:56] Check failed: error == cudaSuccess (2 vs. 0)  out of memory\n"


@pytest.mark.parametrize(
    ("code", "log", "retry", "message"),
    [
        (-6, CHECK, False, "Caffe gave up: io.cpp Check failed: fd != -1 (-1 vs. -1) File not found: x"),
        (-6, CUDA, True, "out of memory"),
        (-6, glog_line("Starting Optimization") + CHECK, True, "File not found"),
        (-11, "", True, "Caffe was ended by SIGSEGV"),
        (-9, "", True, "SIGKILL (out of memory? see dmesg)"),
        (1, "ImportError: libx.so.1: cannot open\n", False, "ended with code 1: ImportError: libx.so.1: cannot open"),
    ],
)
def test_what_is_worth_another_try(tmp_path: Path, code: int, log: str, retry: bool, message: str) -> None:
    path = tmp_path / "x.001.log"
    path.write_text(log)
    tail = LogTail.of_file(path)
    failure = explain(code, tail, RunPaths("x", tmp_path, tmp_path))
    assert failure.retry is retry
    assert message in failure.message


def test_a_failure_that_repeats_itself_is_not_tried_for_ever(bench: Any) -> None:
    """A CHECK that fails at the same place twice: no third try, although --retries would allow it."""
    solver = bench.solver(max_iter=300)
    source = bench.folder / "broken"
    with lmdb.open(str(source), map_size=1 << 24) as environment, environment.begin(write=True) as writing:
        for number in range(1437):
            side = 9 if number == 999 else 8  # Caffe looks at the size of each record when it comes to it
            datum = caffe_pb2().Datum(channels=1, height=side, width=8, data=bytes(side * 8))
            writing.put(b"%08d" % number, datum.SerializeToString())
    text = (bench.folder / solver).read_text().replace("data/digits/train_lmdb", "broken")
    (bench.folder / solver).write_text(text)
    error = bench.run(solver, "--retries", 5, code=1)
    assert error.count("retry") == 1
    assert "Caffe gave up: data_transformer.cpp Check failed: " in error


def test_durations() -> None:
    assert [parse_duration(text) for text in ("8h", "90m", "45s", "1h30m", "2d", "3600")] == [
        28800,
        5400,
        45,
        5400,
        172800,
        3600,
    ]
    for text in ("", "0h", "8 hours", "-1h", "1.5h"):
        with pytest.raises(InputError):
            parse_duration(text)
    assert [duration(s) for s in (45, 90, 1200, 12000, 200000)] == [
        "45 s",
        "1 min 30 s",
        "20 min",
        "3 h 20 min",
        "2 d 7 h",
    ]


def test_the_progress_line(tmp_path: Path) -> None:
    tail, row = LogTail(tmp_path / "x.001.log"), Row("x", 400)
    tail.feed(glog_line("Starting Optimization").encode())
    for iteration, now in ((0, 10.0), (100, 20.0)):
        text = glog_line(f"Iteration {iteration} (10 iter/s, 2s/20 iters), loss = 1.5")
        text += glog_line(f"Iteration {iteration}, Testing net (#0)")
        text += glog_line("    Test net output #0: loss/top-1 = 0.5")
        text += glog_line("    Test net output #1: loss/top-5 = 0.9")
        tail.feed(text.encode())
        row.update(tail, now)
    assert row.line() == "x: iteration 100/400, loss 1.5, accuracy 0.5000, it/s 10.0, left 30 s"
