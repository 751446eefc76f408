"""What is recovered of a run's configuration, against what real Caffe did: which data it read, in what batches."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from caffebench.analysis import read_runs
from caffebench.analysis.runs.config import read_config
from caffebench.engine.locate import caffe_tool
from caffebench.launcher.run.divergence import chance_loss
from caffebench.launcher.solver.solverfile import read_solver

pytestmark = pytest.mark.caffe

TOP = """
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 10 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
SOLVER = """
base_lr: 0.001 lr_policy: "fixed" max_iter: 40 display: 10 test_iter: 5 test_interval: 20
solver_mode: CPU snapshot_after_train: false
"""
DUMMY = """
layer {
  name: "d" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 6 dim: 8 } shape { dim: 6 } }
}
"""


def data(batch: int, rule: str = "", of: str = "train") -> str:
    source = f'data_param {{ source: "data/digits/{of}_lmdb" batch_size: {batch} backend: LMDB }}'
    return f'layer {{ name: "data" type: "Data" top: "data" top: "label" {source} {rule} }}\n'


TRAIN, TEST = data(7, "include { phase: TRAIN }"), data(11, "include { phase: TEST }", "test")
OLD = TOP.replace("layer {", "layers {").replace('"InnerProduct"', "INNER_PRODUCT").replace('"Accuracy"', "ACCURACY")
OLD = (TRAIN + TEST).replace("layer {", "layers {").replace('"Data"', "DATA") + OLD.replace(
    '"SoftmaxWithLoss"', "SOFTMAX_LOSS"
)
LONG = "".join(f'layer {{ name: "{"x" * 200}{n}" type: "Silence" bottom: "label" }}\n' for n in range(150))

OF_2014 = "layers of 2014"

KINDS = {
    "usual": (TRAIN + TEST, "", 7, 11),
    "test first": (TEST + TRAIN, "", 7, 11),
    "one for both": (data(9), "", 9, 9),
    "excluded": (data(11, "exclude { phase: TRAIN }", "test") + data(7, "exclude { phase: TEST }"), "", 7, 11),
    "stages": (
        data(9, 'include { phase: TRAIN not_stage: "b" }') + data(7, 'include { phase: TRAIN stage: "b" }') + TEST,
        'train_state { stage: "b" }',
        7,
        11,
    ),
    "stages of tests": (
        TRAIN
        + data(13, 'include { phase: TEST stage: "a" }', "test")
        + data(11, 'include { phase: TEST stage: "b" }', "test"),
        'test_state { stage: "b" }',
        7,
        11,
    ),
    "data that no file has": (DUMMY, "", 6, 6),
    "gradients of several batches": (TRAIN + TEST, "iter_size: 3", 21, 11),
    "cut by glog": (TRAIN + TEST + LONG, "iter_size: 3", 21, 11),
    OF_2014: (OLD, "", 7, 11),
}


# Caffe takes layers of 2014 in a file of their own only.
@pytest.mark.parametrize(
    ("kind", "inside"), [(kind, inside) for kind in KINDS for inside in (False, True) if not inside or kind != OF_2014]
)
def test_batches_are_those_that_caffe_read(digits_root: Path, tmp_path: Path, kind: str, inside: bool) -> None:
    net, more, batch, test_batch = KINDS[kind]
    net += "" if kind == OF_2014 else TOP
    (tmp_path / "data").symlink_to(digits_root)
    (tmp_path / "net.prototxt").write_text(net)
    named = f"net_param {{\n{net}\n}}" if inside else 'net: "net.prototxt"'
    (tmp_path / "solver.prototxt").write_text(f"{SOLVER}{more}\n{named}\n")
    with (tmp_path / "net.log").open("w") as log:
        command = [caffe_tool(), "train", "-solver", "solver.prototxt"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GLOG_")}
        subprocess.run(command, cwd=tmp_path, stderr=log, env=environment, check=True)
    (run,) = read_runs([tmp_path / "net.log"], train_size=1000)
    lost = inside and kind == "cut by glog"  # as nothing in the log of plain Caffe tells it
    assert (run.config.batch_size, run.config.test_images) == (7 if lost else batch, 5 * test_batch)
    assert run.epochs == pytest.approx((7 if lost else batch) * 40 / 1000)
    assert bool(run.notes) == lost
    assert run.config.classes == 10


def test_the_log_tells_the_same_loss_of_guessing_as_the_file(shared: Path) -> None:
    """``run-caffe`` reckons it from the file, ``merge-logs`` from what Caffe printed of it."""
    root = Path(__file__).parents[2]
    originals = shared.rglob("caffenet-benchmark/prototxt/batch_size/*.prototxt")
    solvers = [read_solver(path).solver for path in (*root.glob("prototxt/*.prototxt"), *originals)]
    found = [(chance_loss(solver), read_config(str(solver)).guessing) for solver in solvers]
    assert len(found) > 120
    for ours, printed in found:
        assert printed == pytest.approx(ours)
    assert {round(ours, 3) for ours, _ in found if ours} == {6.908, 11.052}, "one softmax, and GoogLeNet's three"
