"""What a resume lists as restored is as in a run that was never interrupted; what cannot be so is said."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

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
