"""What a resume lists as restored is as in a run that was never interrupted; what cannot be so is said."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from caffebench.engine.locate import caffe_tool

SETTINGS = """
base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 60 display: 20 snapshot: 20 random_seed: 3
snapshot_prefix: "x"
"""
DATA = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.00390625 }
  data_param { source: "data/digits/train_lmdb" batch_size: 64 backend: LMDB } }
"""
SCORES = """
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param {
  num_output: 10 weight_filler { type: "xavier" } } }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }'


def write(bench: Any, layers: str, settings: str = "", header: str = "") -> str:
    """A solver with a net of ``layers``."""
    (bench.folder / "one.prototxt").write_text(f"{header}net_param {{ {layers} }}\n{settings}{SETTINGS}")
    return "one.prototxt"


def resumed(bench: Any, solver: str, *options: str, at: int = 40) -> tuple[bool, dict[str, Any]]:
    """Whether a run that is resumed at ``at`` ends with the weights of a whole one, and what its log says of that."""
    bench.run(solver, "--name", "whole", *options)
    bench.run(solver, "--name", "part", "--max-iter", at, *options)
    said = bench.run(solver, "--name", "part", *options)
    line = re.search(r"caffebench: resume (\{.*\})", bench.log(2, "part"))
    assert line is not None
    found = json.loads(line[1])
    lost = ", ".join(found["not_restored"])
    assert f"not restored: {lost}" in said if lost else "not restored" not in said
    return bench.weights(60, "whole") == bench.weights(60, "part"), found


def test_layers_that_are_called_alike(bench: Any) -> None:
    """Caffe tells data layers apart by their place, and lets them share a name, also in one net."""
    other = DATA.replace('top: "data" top: "label"', 'top: "data2" top: "label2"').replace("train_lmdb", "test_lmdb")
    shared = SCORES.replace('top: "ip"', 'top: "ip" param { name: "w" } param { name: "b" }')
    second = shared.replace('"ip"', '"ip2"').replace('"data"', '"data2"') + (
        'layer { name: "loss2" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label2" top: "loss2" }'
    )
    solver = write(bench, DATA + other + shared + second + LOSS)
    same, said = resumed(bench, solver)
    assert same
    assert said["not_restored"] == []


def test_the_first_of_layers_that_are_called_alike_has_other_data(bench: Any) -> None:
    other = DATA.replace('top: "data" top: "label"', 'top: "data2" top: "label2"').replace("train_lmdb", "test_lmdb")
    silent = 'layer { name: "quiet" type: "Silence" bottom: "data2" bottom: "label2" }'
    solver = write(bench, DATA + other + silent + SCORES + LOSS)
    bench.run(solver, "--max-iter", 40)
    path = bench.folder / solver
    path.write_text(path.read_text().replace("train_lmdb", "test_lmdb"))
    assert "test_lmdb has 360 records, and had 1,437 at the snapshot" in bench.run(solver)


def test_weights_of_layers_that_are_called_alike(bench: Any) -> None:
    """Caffe puts both into the first of them."""
    first = SCORES.replace('top: "ip"', 'top: "hidden"').replace("num_output: 10", "num_output: 64")
    middle, last = (
        first.replace('"data"', '"hidden"').replace('top: "hidden"', f'top: "{top}"') for top in ("b", "ip")
    )
    solver = write(bench, DATA + first.replace('"ip"', '"first"') + middle + last.replace('"hidden"', '"b"') + LOSS)
    same, said = resumed(bench, solver)
    assert same
    assert said["not_restored"] == []


HDF5 = """
layer { name: "data" type: "HDF5Data" top: "data" top: "label" include { phase: TRAIN }
  hdf5_data_param { source: "list.txt" batch_size: 32 shuffle: true } }
"""
TESTS = HDF5.replace("TRAIN", "TEST").replace("32", "50")
APART = HDF5.replace('top: "label"', "") + HDF5.replace('top: "data"', "")
TWO_FILES = """
import numpy
from caffebench.engine.pycaffe import import_caffe
caffe = import_caffe()
for number in range(2):
    with open("write.prototxt", "w") as file:
        file.write('''
          layer { name: "in" type: "Input" top: "data" top: "label"
            input_param { shape { dim: 100 dim: 64 } shape { dim: 100 } } }
          layer { name: "out" type: "HDF5Output" bottom: "data" bottom: "label"
            hdf5_output_param { file_name: "%d.h5" } }
        ''' % number)
    net, draw = caffe.Net("write.prototxt", caffe.TEST), numpy.random.default_rng(number)
    net.blobs["data"].data[...] = draw.random((100, 64))
    net.blobs["label"].data[...] = draw.integers(0, 10, 100)
    net.forward()
    del net  # which writes the file
"""


@pytest.fixture
def hdf5(bench: Any) -> None:
    """Two HDF5 files of random records, and the list of them."""
    subprocess.run([sys.executable, "-c", TWO_FILES], cwd=bench.folder, capture_output=True, check=True)
    (bench.folder / "list.txt").write_text("0.h5\n1.h5\n")


@pytest.mark.usefixtures("hdf5")
@pytest.mark.parametrize(
    ("layers", "settings", "header"),
    [
        (HDF5 + TESTS, "test_iter: 3 test_interval: 10", ""),
        (APART, "iter_size: 2", ""),
        (HDF5, "", "# caffebench: phases: [{until: 30}, {until: 60, base_lr: 0.05}]\n"),
    ],
    ids=["train and test", "two in one net", "a solver for each phase"],
)
def test_orders_of_shuffled_hdf5_data(bench: Any, layers: str, settings: str, header: str) -> None:
    """Caffe shuffles all of them with one generator: the order of each depended on when the others were read."""
    same, said = resumed(bench, write(bench, layers + SCORES + LOSS, settings, header))
    assert same
    assert said["not_restored"] == []


@pytest.mark.usefixtures("hdf5")
def test_a_single_shuffled_hdf5_layer_has_the_order_of_plain_caffe(bench: Any) -> None:
    solver = write(bench, HDF5 + SCORES + LOSS)
    bench.run(solver, "--layers", "caffe")
    subprocess.run([caffe_tool(), "train", "-solver", solver], cwd=bench.folder, capture_output=True, check=True)
    assert (bench.folder / "x_iter_60.caffemodel").read_bytes() == bench.weights(60, "one")


LSTM = """
layer { name: "seq" type: "Reshape" bottom: "data" top: "seq" reshape_param { shape { dim: 8 dim: 8 dim: 64 } } }
layer { name: "steps" type: "Reshape" bottom: "label" top: "steps" reshape_param { shape { dim: 8 dim: 8 } } }
layer { name: "cont" type: "DummyData" top: "cont" dummy_data_param { shape { dim: 8 dim: 8 } FILLER } }
layer { name: "rec" type: "LSTM" bottom: "seq" bottom: "cont" top: "rec" recurrent_param {
  num_output: 16 weight_filler { type: "uniform" min: -0.1 max: 0.1 } bias_filler { type: "constant" } } }
layer { name: "out" type: "InnerProduct" bottom: "rec" top: "out" inner_product_param {
  num_output: 10 axis: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "out" bottom: "steps" top: "loss" softmax_param { axis: 2 } }
"""


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_hidden_states_are_not_and_that_is_said(bench: Any, kind: str) -> None:
    on = 'data_filler { type: "constant" value: 1 }'
    same, said = resumed(bench, write(bench, DATA + LSTM.replace("FILLER", on).replace("LSTM", kind)))
    assert not same
    assert said["not_restored"] == ["hidden state of rec (zero, as at the start of a sequence)"]


def test_hidden_states_of_sequences_that_end_with_their_batch(bench: Any) -> None:
    same, said = resumed(bench, write(bench, DATA + LSTM.replace("FILLER", "")))
    assert same
    assert said["not_restored"] == []


PYTHON = """
import random
import caffe
import numpy as np


class Layer(caffe.Layer):
    def setup(self, bottom, top):
        self.table = {"gain": 0.5, "names": ["a", "b"]}

    def reshape(self, bottom, top):
        self.buffer = np.zeros(bottom[0].data.shape, np.float32)
        top[0].reshape(*bottom[0].shape)

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = top[0].diff


class Stateless(Layer):
    def forward(self, bottom, top):
        self.buffer[...] = bottom[0].data * self.table["gain"]
        self.last = float(self.buffer.sum())
        top[0].data[...] = self.buffer


class Noise(Layer):
    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data + np.random.normal(0, 0.1, self.buffer.shape) + random.random()


class Counter(Layer):
    def setup(self, bottom, top):
        self.passes = 0

    def forward(self, bottom, top):
        self.passes += 1
        top[0].data[...] = bottom[0].data * min(1, self.passes / 40)


class Wide(Layer):  # counts, and draws, in reshape
    def setup(self, bottom, top):
        self.passes = 0

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.passes += 1
        self.gain = np.random.random() + self.passes % 20 / 20

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data * self.gain


class Average(Layer):
    def setup(self, bottom, top):
        self.centre = [np.zeros(bottom[0].shape[1], np.float32)]

    def forward(self, bottom, top):
        self.centre[0] += 0.1 * (bottom[0].data.mean(0) - self.centre[0])
        top[0].data[...] = bottom[0].data - self.centre[0]


class Records(caffe.Layer):
    def setup(self, bottom, top):
        self.images = np.random.default_rng(1).random((200, 64))
        self.order, self.place = np.random.permutation(200), 0

    def reshape(self, bottom, top):
        top[0].reshape(32, 64)
        top[1].reshape(32)

    def forward(self, bottom, top):
        if self.place + 32 > len(self.order):
            self.order, self.place = np.random.permutation(200), 0
        chosen = self.order[self.place : self.place + 32]
        self.place += 32
        top[0].data[...] = self.images[chosen]
        top[1].data[...] = chosen % 10

    def backward(self, top, propagate_down, bottom):
        pass
"""
READ = 'layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "own" layer: "Records" } }'


def own_layer(name: str) -> str:
    """The scores go through a layer of the module ``own``."""
    python = f'python_param {{ module: "own" layer: "{name}" }}'
    layer = f'layer {{ name: "own" type: "Python" bottom: "ip" top: "own" {python} }}'
    return SCORES + layer + LOSS.replace('"ip"', '"own"')


@pytest.mark.parametrize(
    ("layers", "lost"),
    [
        (DATA + own_layer("Stateless"), []),
        (DATA + own_layer("Noise"), []),
        (READ + SCORES + LOSS, []),
        (DATA + own_layer("Counter"), ["state of the Python layer own (as far as it is not made anew: passes)"]),
        (DATA + own_layer("Average"), ["state of the Python layer own (as far as it is not made anew: centre)"]),
        (READ + own_layer("Noise"), ["state of the Python layer data (as far as it is not made anew: order)"]),
    ],
    ids=["stateless", "random numbers", "shuffled records", "counter", "running mean", "order mixed with other draws"],
)
def test_what_python_layers_keep(bench: Any, layers: str, lost: list[str]) -> None:
    """It is restored, or said not to be; and nothing is said of a layer that keeps nothing."""
    (bench.folder / "own.py").write_text(PYTHON)
    same, said = resumed(bench, write(bench, layers), "--allow-python-layers")
    assert same == (not lost)
    assert said["not_restored"] == lost


def test_python_layers_of_a_snapshot_that_says_nothing_of_them(bench: Any) -> None:
    (bench.folder / "own.py").write_text(PYTHON)
    solver = write(bench, DATA + own_layer("Noise"))
    bench.run(solver, "--allow-python-layers", "--max-iter", 20)
    (bench.folder / "snapshots/one_iter_20.json").unlink()
    said = bench.run(solver, "--allow-python-layers")
    assert "state and random numbers of the Python layers (not known: the snapshot has not kept them)" in said


def test_a_module_that_seeds_itself_draws_as_under_plain_caffe(bench: Any) -> None:
    draw = "print(np.random.random(), file=open('drawn', 'a'))"
    module = PYTHON.replace("class Layer(", "np.random.seed(7)\n\n\nclass Layer(")
    (bench.folder / "own.py").write_text(
        module.replace("    def forward", f"    def forward(self, *some): {draw}; self.run(*some)\n\n    def run")
    )
    bench.run(write(bench, DATA + own_layer("Stateless")), "--allow-python-layers", "--max-iter", 2)
    drawn = [float(one) for one in (bench.folder / "drawn").read_text().split()]
    assert drawn == np.random.RandomState(7).random(len(drawn)).tolist()


def test_a_stop_where_a_test_was_just_done(bench: Any) -> None:
    """A resumed run repeats that test, and so the draws in it."""
    (bench.folder / "own.py").write_text(PYTHON)
    records = READ.replace("python_param", "include { phase: TEST } python_param")
    train = DATA.replace("transform_param", "include { phase: TRAIN } transform_param")
    layers = train + records + own_layer("Stateless")
    path = bench.folder / write(bench, layers, "test_iter: 3 test_interval: 1")
    path.write_text(path.read_text().replace("snapshot: 20", "").replace("max_iter: 60", "max_iter: 3000"))
    command = (path.name, "--allow-python-layers", "--name")
    bench.run(*command, "whole")
    child = bench.start(*command, "part")
    bench.wait_for("Iteration 1000 ", run="part")
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert "not restored" not in bench.run(*command, "part")
    assert bench.weights(3000, "part") == bench.weights(3000, "whole")
    tests = [re.findall(r"Test net output.*", bench.log(number, run)) for number, run in ((1, "whole"), (2, "part"))]
    assert tests[0][-len(tests[1]) :] == tests[1]
    assert len(tests[1]) > 1000


def test_looking_at_python_layers_changes_nothing(bench: Any) -> None:
    (bench.folder / "own.py").write_text(PYTHON)
    for name, every in (("often", "5"), ("once", "60")):
        path = bench.folder / write(bench, DATA + own_layer("Wide"))
        path.write_text(path.read_text().replace("snapshot: 20", f"snapshot: {every}"))
        bench.run(path.name, "--allow-python-layers", "--name", name)
    assert bench.weights(60, "often") == bench.weights(60, "once")
