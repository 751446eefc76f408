"""Net files of an old form, which Caffe upgrades when it reads them: what is promised of nets holds for them too."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from caffebench.common.errors import InputError
from caffebench.engine.locate import caffe_pb2, caffe_tool
from caffebench.engine.pycaffe import import_caffe
from caffebench.launcher.solver.netfile import read_net
from caffebench.launcher.state.record import read_record, write_record

DATA = 'data_param { source: "SOURCE" backend: LMDB batch_size: 32 scale: 0.02 mirror: true }'
V1 = f"""
name: "old" force_backward: true
layers {{ name: "data" type: DATA top: "data" top: "label" {DATA} include {{ phase: TRAIN }} }}
layers {{ name: "data" type: DATA top: "data" top: "label" {DATA.replace("32", "50")} include {{ phase: TEST }} }}
layers {{ name: "fixed" type: CONVOLUTION bottom: "data" top: "fixed" blobs_lr: 0 blobs_lr: 0 weight_decay: 1
         weight_decay: 0 convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ value: 0.1 }} }} }}
layers {{ name: "norm" type: LRN bottom: "fixed" top: "norm" lrn_param {{ local_size: 3 }} }}
layers {{ name: "relu" type: RELU bottom: "norm" top: "norm" }}
layers {{ name: "pool" type: POOLING bottom: "norm" top: "pool" pooling_param {{ pool: AVE kernel_size: 2 }} }}
layers {{ name: "fc" type: INNER_PRODUCT bottom: "pool" top: "fc" param: "w" param: "b" blob_share_mode: STRICT
         blobs_lr: 1 inner_product_param {{ num_output: 10 weight_filler {{ type: "xavier" }} }} }}
layers {{ name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" top: "loss" loss_weight: 2 }}
"""
# Its data layer knows LevelDBs alone.
V0 = """
input: "data" input_dim: 32 input_dim: 1 input_dim: 8 input_dim: 8
input: "label" input_dim: 32 input_dim: 1 input_dim: 1 input_dim: 1
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "pad" }
layers { layer { name: "conv" type: "conv" num_output: 4 kernelsize: 3 stride: 2 biasterm: false blobs_lr: 1
         weight_decay: 2 weight_filler { type: "xavier" } } bottom: "pad" top: "conv" }
layers { layer { name: "relu" type: "relu" } bottom: "conv" top: "conv" }
layers { layer { name: "pool" type: "pool" pool: MAX kernelsize: 2 stride: 2 } bottom: "conv" top: "pool" }
layers { layer { name: "fc" type: "innerproduct" num_output: 10 } bottom: "pool" top: "fc" }
layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.2 } bottom: "fc" top: "fc" }
layers { layer { name: "loss" type: "softmax_loss" } bottom: "fc" bottom: "label" }
"""
INPUT = 'input: "extra" input_dim: 32 input_dim: 1 input_dim: 1 input_dim: 1\n'
LAYERS = """
layer { name: "data" type: "Data" top: "data" top: "label"
        data_param { source: "SOURCE" backend: LMDB batch_size: 32 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 10
        weight_filler { type: "xavier" } } }
BETWEEN
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "LAST" bottom: "label" top: "loss" }
"""
USES_INPUT = INPUT + LAYERS.replace(
    "BETWEEN",
    'layer { name: "more" type: "InnerProduct" bottom: "extra" top: "more" inner_product_param { num_output: 10 } }'
    ' layer { name: "sum" type: "Eltwise" bottom: "fc" bottom: "more" top: "sum" }',
).replace("LAST", "sum")
LEARNS = "param { lr_mult: 1 } " * 3
BATCH_NORM = LAYERS.replace(
    "BETWEEN", f'layer {{ name: "bn" type: "BatchNorm" bottom: "fc" top: "bn" {LEARNS} }}'
).replace("LAST", "bn")
OLD = pytest.mark.parametrize("net", [V1, V0, USES_INPUT, BATCH_NORM], ids=["V1", "V0", "input", "batch norm"])
SOLVER = 'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 20 display: 10 random_seed: 7 snapshot: 10\n'


def written(bench: Any, net: str, *, folder: str = "", header: str = "", solver: str = SOLVER) -> Path:
    """A solver called ``small`` and its net beside it, in ``folder``."""
    (bench.folder / folder).mkdir(exist_ok=True)
    text = net.replace("SOURCE", "data/digits/train_lmdb")
    (bench.folder / folder / "net.prototxt").write_text(text)
    path = Path(folder) / "small.prototxt"
    (bench.folder / path).write_text(header + solver)
    return path


@OLD
@pytest.mark.caffe
def test_a_net_is_upgraded_as_caffe_does_it(digits_root: Path, tmp_path: Path, net: str) -> None:
    file = tmp_path / "net.prototxt"
    file.write_text(net.replace("SOURCE", str(digits_root / "digits/train_lmdb")))
    caffe = import_caffe()
    caffe.Net(str(file), caffe.TRAIN).save(str(tmp_path / "net.caffemodel"))
    built = caffe_pb2().NetParameter.FromString((tmp_path / "net.caffemodel").read_bytes())
    _, ours = read_net(str(file), tmp_path / "solver.prototxt")
    test = caffe_pb2().NetStateRule(phase=caffe_pb2().TEST)
    expected = [layer for layer in ours.layer if test not in layer.include]
    for layer, given in zip(built.layer, expected, strict=True):  # what Caffe has filled in
        for field in ("phase", "blobs") + (() if given.loss_weight else ("loss_weight",)):
            layer.ClearField(field)
    assert [text_format.MessageToString(layer) for layer in built.layer] == [
        text_format.MessageToString(layer) for layer in expected
    ]
    assert (ours.name, ours.force_backward) == (built.name, net is V1)


@OLD
def test_it_trains_as_with_caffe_train(bench: Any, net: str) -> None:
    bench.run(written(bench, net.replace("mirror: true", "").replace("0.2", "0")), "--layers", "caffe")
    command = [caffe_tool(), "train", "-solver", "small.prototxt"]
    loud = {**os.environ, "GLOG_minloglevel": "0"}
    caffe = subprocess.run(command, cwd=bench.folder, env=loud, capture_output=True, text=True, check=True).stderr
    losses = re.compile(r"Iteration (\d+).*, loss = (\S+)")
    assert losses.findall(bench.log()) == losses.findall(caffe) != []


def test_promises_of_nets_hold_for_the_old_layout(bench: Any) -> None:
    """The net beside its solver, elsewhere; a layer that never learns; phases; the data root; a net that is edited."""
    header = "# caffebench: init: lsuv\n# caffebench: phases: [{until: 10, batch_size: 8}, {until: 20}]\n"
    tested = SOLVER + "test_iter: 2 test_interval: 20\n"
    path = written(bench, V1, folder="models", header=header, solver=tested)
    line = bench.run(path, "--data-root", "elsewhere", code=2).splitlines()[-1]
    assert "trains on the LMDB elsewhere/digits/train_lmdb, which is not there" in line

    bench.run(path, "--max-iter", 10)
    assert re.findall(r'"layer": "(\w+)".*"skipped"', bench.log()) == ["fixed"]
    sizes = re.findall(r"batch_size: (\d+)", bench.log().partition("caffebench: phase")[0])
    assert set(sizes) == {"8", "50"}
    model = caffe_pb2().NetParameter.FromString(bench.weights(10))
    fixed = next(layer for layer in model.layer if layer.name == "fixed")
    assert list(fixed.blobs[0].data) == pytest.approx([0.1] * 36)

    net = bench.folder / "models/net.prototxt"
    net.write_text(net.read_text().replace("batch_size: 32", "batch_size: 24").replace("blobs_lr: 1", "blobs_lr: 3"))
    said = bench.run(path)
    assert "net_param.layer[data].data_param.batch_size: 32 -> 24" in said
    assert "net_param.layer[fc].param[w].lr_mult: 1 -> 3" in said


def of_an_earlier_version(bench: Any, iteration: int) -> None:
    """Make log and record of the run those of a version that kept no net of an old form, but the name of its file."""
    path = bench.folder / f"snapshots/small_iter_{iteration}.json"
    record = read_record(path)
    assert record is not None
    assert record.identity is not None
    solver = text_format.Parse(record.solver, caffe_pb2().SolverParameter(), allow_unknown_field=True)
    solver.ClearField("net_param")
    solver.net = "net.prototxt"
    identity = replace(record.identity, net="of then", file="of then")
    write_record(path, replace(record, solver=text_format.MessageToString(solver), identity=identity))
    log = bench.folder / "logs/small.001.log"
    log.write_text(log.read_text().replace(record.identity.net, "of then").replace(record.identity.file, "of then"))


def test_runs_of_an_earlier_version_are_what_they_were(bench: Any) -> None:
    solver = written(bench, V1)
    bench.run(solver, "--max-iter", 10)
    of_an_earlier_version(bench, 10)
    assert "net" not in bench.run(solver).partition("changed since")[2].partition("\n")[0]
    bench.run(solver, "--fresh")
    of_an_earlier_version(bench, 20)
    assert "it was finished before" in bench.run(solver)
    (bench.folder / solver).write_text(SOLVER.replace("0.01", "0.02"))
    assert "base_lr: 0.01 -> 0.02" in bench.run(solver, code=2)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (V1 + BATCH_NORM, "has layers of two layouts, of which Caffe takes one at a time: data is a 'layer'"),
        (
            USES_INPUT.replace("input_dim: 1 ", "", 1),
            "has no shape for its input extra: give each input an input_shape",
        ),
    ],
    ids=["two layouts", "no shape"],
)
def test_what_caffe_does_not_upgrade_is_refused(bench: Any, net: str, message: str) -> None:
    line = bench.run(written(bench, net), code=2).splitlines()[-1]
    assert f"net.prototxt, the net of small.prototxt, {message}" in line


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (V0, "in the layout of before 2015 (pad and others are 'layers')"),
        (USES_INPUT, "of before 2016 (its extra is an 'input', not a layer)"),
        (BATCH_NORM, "of before 2016 (the statistics of bn have a learning rate)"),
    ],
)
def test_an_old_form_inside_the_solver_is_refused(bench: Any, net: str, message: str) -> None:
    solver = SOLVER.replace('net: "net.prototxt"', f"net_param {{ {net} }}").replace("SOURCE", "data/digits/train_lmdb")
    line = bench.run(written(bench, net, solver=solver), code=2).splitlines()[-1]
    assert f"small.prototxt holds a net {message}, which Caffe upgrades in files only" in line


def test_an_unknown_net_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names the net missing"):
        read_net("missing", tmp_path / "small.prototxt")
