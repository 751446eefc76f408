"""``--base``: layers that enlarge and learn nothing, and features that are not on axis 1."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_base_nets import SOLVER, layers, on, on_caffe

PIXELS = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 4 dim: 2 dim: 6 dim: 6 } shape { dim: 4 dim: 1 dim: 12 dim: 12 }
  data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 1 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "score" type: "Convolution" bottom: "conv1" top: "score"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "upscore" type: "Deconvolution" bottom: "score" top: "upscore" LEARNS
  convolution_param { num_output: 3 GROUP kernel_size: 4 stride: 2 pad: 1 bias_term: false FILLER } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "upscore" bottom: "label" top: "loss" }
"""
FROZEN, BILINEAR = "param { lr_mult: 0 decay_mult: 0 }", 'weight_filler { type: "bilinear" }'


def segmenting(learns: str, group: str, filler: str) -> str:
    net = PIXELS.replace("LEARNS", learns).replace("GROUP", group).replace("FILLER", filler)
    return f"{SOLVER} net_param {{ {net} }}".replace("test_iter: 1 test_interval: 50", "")


def named(text: str) -> dict[str, Any]:
    return {one.name: one for one in layers(text)}


UPSAMPLING = {
    "frozen": (FROZEN, "", BILINEAR),
    "by_channel": (FROZEN, "group: 3", BILINEAR),
    "learned": ("", "group: 3", BILINEAR),
}


@pytest.mark.caffe
@pytest.mark.parametrize("kind", UPSAMPLING)
def test_upsampling_is_no_layer_of_outputs(kind: str, tmp_path: Path) -> None:
    variants = [{"filler": "xavier"}, {"dropout": 0.5}, {"width": 0.5}, {"classifier": "new", "classes": 5}]
    made = on(tmp_path, segmenting(*UPSAMPLING[kind]), *variants, {"classifier": "new"})
    assert made.refused == {}
    filled, dropped, narrow, classes, renamed = map(named, made.texts.values())
    assert filled["upscore"].convolution_param.weight_filler.type == "bilinear"
    assert filled["score"].convolution_param.weight_filler.type == "xavier"
    assert list(dropped) == ["data", "conv1", "relu1", "drop_score", "score", "upscore", "loss"]
    assert [narrow[name].convolution_param.num_output for name in ("conv1", "score", "upscore")] == [4, 3, 3]
    assert {"score_new", "upscore_new"} < set(classes)
    assert {"score_new", "upscore"} < set(renamed), "as many classes: the weights that enlarge them fit"
    shapes = on_caffe(tmp_path, made.texts)["v3"][0]["shapes"]
    assert shapes["score_new"] == [[5, 8, 1, 1], [5]]
    assert shapes["upscore_new"] == [[5, 1 if "group" in UPSAMPLING[kind][1] else 5, 4, 4]]


def test_weights_of_upsampling_that_no_filler_makes_cannot_take_other_classes(tmp_path: Path) -> None:
    base = segmenting(FROZEN, "", "")  # as FCN's: its own script puts them in
    made = on(tmp_path, base, {"classifier": "new", "classes": 5}, {"classifier": "new"}, {"filler": "msra"})
    assert list(made.refused) == ["v0"]
    assert made.refused["v0"].startswith(
        "layer upscore (Deconvolution): its weights, of another number of classes, come"
    )
    assert 'say weight_filler { type: "bilinear" }' in made.refused["v0"]
    assert not named(made.texts["v2"])["upscore"].convolution_param.HasField("weight_filler")


def test_a_deconvolution_that_learns_is_a_linear_layer(tmp_path: Path) -> None:
    learned = segmenting("", "", 'weight_filler { type: "gaussian" std: 0.1 }')
    filled, new = map(
        named, on(tmp_path, learned, {"filler": "msra"}, {"classifier": "new", "classes": 5}).texts.values()
    )
    assert filled["upscore"].convolution_param.weight_filler.type == "msra"
    assert ("score" in new, new["upscore_new"].convolution_param.num_output) == (True, 5)


SEQUENCE = """
layer { name: "data" type: "DummyData" top: "x" top: "cont" top: "label" dummy_data_param {
  shape { dim: 6 dim: 4 dim: 5 } shape { dim: 6 dim: 4 } shape { LABELS }
  data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 1 } data_filler { type: "constant" } } }
layer { name: "lstm1" type: "LSTM" bottom: "x" bottom: "cont" top: "lstm1"
  recurrent_param { num_output: 7 weight_filler { type: "uniform" min: -0.1 max: 0.1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "lstm1" top: "ip"
  inner_product_param { num_output: 8 AXIS weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "READS" top: "relu" }
layer { name: "pred" type: "InnerProduct" bottom: "relu" top: "pred"
  inner_product_param { num_output: 3 AXIS weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "pred" bottom: "label" top: "loss" SOFTMAX }
"""


def sequence(axis: str, reads: str = "ip") -> str:
    each = "1" not in axis
    net = SEQUENCE.replace("AXIS", axis).replace("READS", reads)
    net = net.replace("LABELS", "dim: 6 dim: 4" if each else "dim: 6")
    net = net.replace("SOFTMAX", "softmax_param { axis: 2 }" if each else "")
    return f"{SOLVER} net_param {{ {net} }}".replace("test_iter: 1 test_interval: 50", "")


@pytest.mark.parametrize(
    ("axis", "reads", "of"),
    [("axis: 2", "ip", "ip"), ("axis: -1", "ip", "ip"), ("axis: 2", "lstm1", "lstm1")],
)
def test_what_is_learned_for_each_feature_is_refused_where_axis_1_is_the_streams(
    axis: str, reads: str, of: str, tmp_path: Path
) -> None:
    made = on(
        tmp_path, sequence(axis, reads), {"activation": "prelu"}, {"bn": "before"}, {"activation": "elu"}, {"width": 2}
    )
    why = f"layer relu (ReLU): the features of {of} are on axis 2, and Caffe's {{}} takes axis 1 for them"
    assert made.refused["v0"] == why.format("PReLU")
    told = why.format("BatchNorm") if reads == "ip" else "bn: the net has no linear layer with an activation behind it"
    assert made.refused["v1"].startswith(told)
    assert "v2" in made.texts


@pytest.mark.caffe
def test_features_on_axis_1_are_taken_behind_an_lstm_too(tmp_path: Path) -> None:
    made = on(tmp_path, sequence("axis: 1"), {"activation": "prelu", "bn": "before", "bn_scale": True})
    assert made.refused == {}
    (net,) = on_caffe(tmp_path, made.texts)["v0"]
    assert (net["shapes"]["ip/bn"][0], net["shapes"]["prelu"]) == ([8], [[8]])
