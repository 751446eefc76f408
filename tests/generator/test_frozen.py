"""What is frozen keeps its weights to the bit, all of them, on real Caffe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_base import layers, on, written

HEAD = (
    'base_lr: 0.1 lr_policy: "fixed" max_iter: 20 momentum: 0.9 weight_decay: 0.1 snapshot_prefix: "s"\nnet_param {\n'
)
FILLER = 'weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "constant" value: 0.1 }'
DATA = """
layer {{ name: "data" type: "DummyData" {tops} dummy_data_param {{ {shapes}
  data_filler {{ type: "gaussian" std: 1 }} {fillers} }} }}
"""
END = """
layer {{ name: "fc" type: "InnerProduct" bottom: "{0}" top: "fc"
  inner_product_param {{ num_output: 3 axis: {1} {2} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" softmax_param {{ axis: {1} }} }}
}}
"""
ONE = 'data_filler { type: "constant" value: 1 }'
PICTURES = DATA.format(
    tops='top: "data" top: "label"', shapes="shape { dim: 4 dim: 2 dim: 6 dim: 6 } shape { dim: 4 }", fillers=ONE
)
SEQUENCE = DATA.format(
    tops='top: "x" top: "cont" top: "static" top: "label"',
    shapes="shape { dim: 6 dim: 4 dim: 5 } shape { dim: 6 dim: 4 } shape { dim: 4 dim: 9 } shape { dim: 6 dim: 4 }",
    fillers=f'{ONE} data_filler {{ type: "gaussian" std: 1 }} {ONE}',
)
CONVOLUTION = f"convolution_param {{ num_output: 4 kernel_size: 3 {FILLER} }}"
PLAIN = f"""{HEAD}{PICTURES}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1" {CONVOLUTION} }}
layer {{ name: "conv1/bn" type: "BatchNorm" bottom: "conv1" top: "conv1" }}
layer {{ name: "conv1/relu" type: "ReLU" bottom: "conv1" top: "conv1" }}
layer {{ name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2" param {{ }} {CONVOLUTION} }}
{END.format("conv2", 1, FILLER)}"""
RECURRENT = f"""{HEAD}{SEQUENCE}
layer {{ name: "deep" type: "KIND" bottom: "x" bottom: "cont" bottom: "static" top: "deep"
  recurrent_param {{ num_output: 6 {FILLER} }} }}
{END.format("deep", 2, FILLER)}"""
PARAMETER = f"""{HEAD}{PICTURES}
layer {{ name: "free" type: "Parameter" top: "free" parameter_param {{ shape {{ dim: 4 dim: 2 dim: 6 dim: 6 }} }} }}
layer {{ name: "sum" type: "Eltwise" bottom: "data" bottom: "free" top: "sum" }}
layer {{ name: "prelu" type: "PReLU" bottom: "sum" top: "sum" }}
{END.format("sum", 1, FILLER)}"""
SHARED = f"""{HEAD}{PICTURES}
layer {{ name: "a" type: "InnerProduct" bottom: "data" top: "a" param {{ name: "w" lr_mult: 1 }}
  inner_product_param {{ num_output: 4 bias_term: false {FILLER} }} }}
layer {{ name: "b" type: "InnerProduct" bottom: "data" top: "b" param {{ name: "w" lr_mult: 1 }}
  inner_product_param {{ num_output: 4 bias_term: false {FILLER} }} }}
layer {{ name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }}
{END.format("sum", 1, FILLER)}"""
STILL = {"param.lr_mult": 0, "param.decay_mult": 0}
CASES: list[tuple[str, dict[str, object], set[str]]] = [
    (PLAIN, {"edit": [{"layer": "conv*", **STILL}]}, {"conv1", "conv2"}),
    (PLAIN, {"edit": [{"type": "Convolution", "param.lr_mult": "* 0"}]}, {"conv1", "conv2"}),
    (PLAIN, {"freeze": "conv1/relu"}, {"conv1"}),
    (RECURRENT.replace("KIND", "LSTM"), {"freeze": "deep"}, {"deep"}),
    (RECURRENT.replace("KIND", "RNN"), {"lr_mults": {"deep": 0}}, {"deep"}),
    (RECURRENT.replace("KIND", "LSTM"), {"edit": [{"layer": "deep", **STILL}]}, {"deep"}),
    (PARAMETER, {"freeze": "prelu"}, {"free", "prelu"}),
    (SHARED, {"edit": [{"layer": "b", **STILL}]}, {"a", "b"}),
]

CHANGES = """
import json, sys, caffe, numpy
caffe.set_mode_cpu()
for path in sys.argv[1:]:
    solver = caffe.get_solver(path)
    types = dict(zip(solver.net._layer_names, (layer.type for layer in solver.net.layers)))
    before = {name: [blob.data.copy() for blob in blobs] for name, blobs in solver.net.params.items()}
    solver.step(3)
    print(json.dumps({name: [float(abs(new.data - old).max()) for new, old in zip(blobs, before[name])]
                      for name, blobs in solver.net.params.items() if types[name] != "BatchNorm"}))
"""


@pytest.mark.caffe
def test_frozen_weights_stay_and_all_others_move(tmp_path: Path) -> None:
    paths = []
    for number, (text, settings, _) in enumerate(CASES):
        made = on(written(tmp_path, f"base{number}", text), settings)
        assert made.refused == {}
        paths.append(str(written(tmp_path, f"case{number}", made.texts["v0"])))
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "GLOG_minloglevel": "2"}
    command = [sys.executable, "-c", CHANGES, *paths]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for (_, settings, frozen), line in zip(CASES, done.stdout.splitlines(), strict=True):
        changes = json.loads(line)
        assert {name for name, moved in changes.items() if not any(moved)} == frozen, (settings, changes)
        assert all(all(moved) for name, moved in changes.items() if name not in frozen), (settings, changes)


def test_an_edit_of_all_rates_passes_over_layers_without_weights(tmp_path: Path) -> None:
    base = written(tmp_path, "base", PLAIN)
    made = on(
        base, {"edit": [{"layer": "*", "param.lr_mult": "* 2"}]}, {"edit": [{"layer": "c*", "param.1.lr_mult": 3}]}
    )
    net = layers(made.texts["v0"])
    counts = {name: [spec.lr_mult for spec in one.param] for name, one in net.items()}
    assert counts == {
        "data": [], "conv1": [2, 2], "conv1/bn": [0, 0, 0], "conv1/relu": [], "conv2": [2, 2], "fc": [2, 2], "loss": [],
    }  # fmt: skip
    assert "layer conv1/bn (BatchNorm): its statistics do not learn" in made.refused["v1"]


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ({"type": "ReLU", **STILL}, "edit: no layer that {type: ReLU} chooses has weights of its own"),
        ({"layer": "fc", "param.2.lr_mult": 0}, "layer fc (InnerProduct): param.2.lr_mult: it has 2 blobs of weights"),
        ({"layer": "conv1/relu", "param.0.lr_mult": 0}, "it has 0 blobs of weights"),
        ({"type": "BatchNorm", "param.lr_mult": 1}, "its statistics do not learn: Caffe takes no lr_mult but 0"),
    ],
)
def test_rates_of_weights_that_are_not_there_are_refused(edit: dict[str, object], why: str, tmp_path: Path) -> None:
    assert why in on(written(tmp_path, "base", PLAIN), {"edit": [edit]}).refused["v0"]
