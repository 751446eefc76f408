"""The estimate of a GPU's memory, on nets that are counted by hand and on a process that trains; free memory and load
as a stand-in for the driver gives them. What needs a card is left to gpu-acceptance."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from caffebench.launcher.gpu.load import GpuLoad
from caffebench.launcher.gpu.memory import training_bytes

SOLVER = """
net_param {
  layer { name: "data" type: "DummyData" top: "data" top: "label"
    dummy_data_param { shape { dim: %(batch)d dim: 3 dim: 8 dim: 8 } shape { dim: %(batch)d } } }
  layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 10 } }
  layer { name: "relu" type: "ReLU" bottom: "fc" top: "fc" }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
}
base_lr: 0.01 lr_policy: "fixed" max_iter: 10 type: "%(type)s"
"""


@pytest.mark.caffe
@pytest.mark.parametrize(("type_", "histories"), [("SGD", 1), ("Adam", 2)])
def test_the_bytes_are_those_of_a_count_by_hand(type_, histories):
    batch, weights = 16, 3 * 8 * 8 * 10 + 10
    data = batch * 3 * 8 * 8 + batch  # no gradient
    blobs = batch * 10 + 1  # in place once, each with a gradient
    inside = 2 * batch * 10  # SoftmaxWithLoss: probabilities, and counts where their gradient would be
    expected = 4 * (data + 2 * blobs + inside + weights * (2 + histories))
    assert training_bytes(SOLVER % {"batch": batch, "type": type_}) == expected


def test_a_net_that_caffe_refuses_is_not_counted():
    assert training_bytes(SOLVER.replace("InnerProduct", "NoSuchLayer") % {"batch": 1, "type": "SGD"}) is None


NET = """
net_param {
  layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.00390625 }
    data_param { source: "%(data)s/digits/train_lmdb" batch_size: %(batch)d backend: LMDB } }
  layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 64 kernel_size: 3
    pad: 1 weight_filler { type: "msra" } } }
  layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
  layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
  layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
  layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2
    stride: 2 } }
  layer { name: "other" type: "Convolution" bottom: "conv" top: "other" convolution_param { num_output: 64
    kernel_size: 2 stride: 2 group: 4 weight_filler { type: "msra" } } }
  layer { name: "bn2" type: "BatchNorm" bottom: "other" top: "bn2" }
  layer { name: "prelu" type: "PReLU" bottom: "bn2" top: "bn2" }
  layer { name: "sum" type: "Eltwise" bottom: "pool" bottom: "bn2" top: "sum" eltwise_param { operation: MAX } }
  layer { name: "norm" type: "LRN" bottom: "sum" top: "norm" }
  layer { name: "drop" type: "Dropout" bottom: "norm" top: "norm" }
  layer { name: "flat" type: "Flatten" bottom: "norm" top: "flat" }
  layer { name: "fc" type: "InnerProduct" bottom: "flat" top: "fc" inner_product_param { num_output: 10 } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
}
base_lr: 0.001 lr_policy: "fixed" max_iter: 10 momentum: 0.9
"""

TRAINING = """
import os, re, sys
def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
import caffe
solver = caffe.get_solver(sys.argv[1])
before = held()
solver.step(2)
print(held() - before, flush=True)
os._exit(0)
"""


@pytest.mark.caffe
def test_the_bytes_grow_with_the_batch_as_those_of_a_process_that_trains(digits_root, tmp_path):
    """Caffe allocates on the CPU what it would on a GPU, when it is used: so measured, less what does not depend on the
    batch, such as the BLAS's own buffers. The batches read ahead are the net's before it trains."""
    counted, held = [], []
    for batch in (500, 2500):
        text = NET % {"data": digits_root, "batch": batch}
        (tmp_path / "solver.prototxt").write_text(text + "solver_mode: CPU snapshot_after_train: false")
        count = training_bytes(text)
        assert count is not None
        counted.append(count - batch * (8 * 8 + 1) * 4 * 4)
        command = [sys.executable, "-c", TRAINING, str(tmp_path / "solver.prototxt")]
        environment = dict(os.environ, GLOG_minloglevel="2", OPENBLAS_NUM_THREADS="1")
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        held.append(int(done.stdout))
    assert counted[1] - counted[0] > 300 * 2**20
    assert counted[1] - counted[0] == pytest.approx(held[1] - held[0], rel=0.03)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A folder with a stand-in for the driver and the management library of two cards; no card is behind it."""
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).parents[1] / "engine" / "stand_in_driver.c"
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(folder / name), str(source)], check=True)
    return folder


def with_driver(folder: Path, program: str, **more: str) -> str:
    """What a Python program prints where the stand-in is the driver."""
    environment = dict(os.environ, LD_LIBRARY_PATH=str(folder), **more)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.caffe
@pytest.mark.parametrize(("free", "said"), [("100", True), ("60000", False)])
def test_what_does_not_fit_is_said_with_the_way_out(driver, digits_root, tmp_path, free, said):
    (tmp_path / "solver.prototxt").write_text(NET % {"data": digits_root, "batch": 1024})
    program = f"""
from pathlib import Path
from caffebench.launcher.gpu.memory import memory_note
text = Path({str(tmp_path / "solver.prototxt")!r}).read_text()
print(memory_note("bs1024", text, 1))
"""
    note = with_driver(driver, program, STAND_IN_FREE_MIB=free)
    expected = (
        "bs1024 needs about 0.2 GiB at batch 1024, and GPU 1 has 0.1 GiB free: halve batch_size and set iter_size: 2"
    )
    assert note == (expected if said else "None") + "\n"


def test_how_busy_the_cards_are(driver):
    program = "from caffebench.launcher.gpu.load import GpuLoad; print(GpuLoad((1, 0)).line())"
    assert with_driver(driver, program) == "GPU 1 86 %, 76.0 of 80.0 GiB; GPU 0 87 %, 76.0 of 80.0 GiB\n"


def test_the_live_table_shows_it(driver):
    program = """
from rich.console import Console
from caffebench.launcher.gpu.load import GpuLoad
from caffebench.launcher.show.progress import Board
Console(width=100).print(Board({"bs64": 100}, GpuLoad((0,))).table(100))
"""
    assert with_driver(driver, program).rstrip().endswith("GPU 0 87 %, 76.0 of 80.0 GiB")


def test_without_cards_nothing_is_said():
    assert GpuLoad(()).line() == ""
