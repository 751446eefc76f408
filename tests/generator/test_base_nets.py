"""``--base`` on the nets that Caffe builds: layers written once for each phase, stages, a test net of its own.

Held to real Caffe: such a net, varied, does what the same net does that is written once.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from caffebench.engine.messages import caffe_messages
from caffebench.generator.base import generate_on_base, load_base
from caffebench.generator.base.apply import OnBase
from caffebench.generator.variants.schema import Sweep

SOLVER = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 100 momentum: 0.9 test_iter: 1 test_interval: 50 random_seed: 5\n'
DATA = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 6 dim: 2 dim: 5 dim: 5 } shape { dim: 6 }
  data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 1 } } }
"""
CONV = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" RULE
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
"""
RELU = 'layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" RULE relu_param { negative_slope: 0.1 } }\n'
FC = """
layer { name: "fc" type: "InnerProduct" bottom: "conv1" top: "fc" RULE
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" EVER }\n'
ACCURACY = 'layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" include { phase: TEST } }\n'
TRAIN, TEST, ELSE = "include { phase: TRAIN }", "include { phase: TEST }", "exclude { phase: TRAIN }"

VARIANTS: list[dict[str, object]] = [
    {},
    {"bn": "before", "bn_scale": True},
    {"bn": "after", "bn_scale": True},
    {"activation": "prelu"},
    {"activation": "tanh", "dropout": 0.5},
    {"activation": "rrelu"},
    {"activation": "maxout"},
    {"activation": "none"},
    {"width": 0.5, "dropout": 0.3},
    {"classifier": "new", "classes": 4},
    {"freeze": "relu1"},
    {"filler": "msra", "lr_mults": {"fc": 3}},
]


def net(*layers: str) -> str:
    """A net of layers, which are in all nets where they say no rule."""
    return "".join(layers).replace("RULE", "").replace("EVER", "")


def twin(layer: str, train: str = TRAIN, test: str = TEST) -> str:
    return layer.replace("RULE", train) + layer.replace("RULE", test)


def inside(*layers: str, more: str = "") -> str:
    return f"{SOLVER}{more} net_param {{ {net(*layers)} }}"


ONCE = inside(DATA, CONV, RELU, FC, LOSS, ACCURACY)
RELU_APART, FC_APART = RELU.replace('top: "conv1"', 'top: "act"'), FC.replace('bottom: "conv1"', 'bottom: "act"')
TWICE = {
    "all": inside(DATA, twin(CONV + RELU + FC), LOSS, ACCURACY),
    "convolution": inside(DATA, twin(CONV), RELU, FC, LOSS, ACCURACY),
    "in_place": inside(DATA, CONV, twin(RELU), FC, LOSS, ACCURACY),
    "excluded": inside(DATA, CONV, twin(RELU, test=ELSE), FC, LOSS, ACCURACY),
    "apart": inside(DATA, CONV, twin(RELU_APART), FC_APART, LOSS, ACCURACY),
    "two_nets": f"{SOLVER} train_net_param {{ {net(DATA, CONV, RELU, FC, LOSS)} }}"
    f"test_net_param {{ {net(DATA, CONV, RELU, FC, LOSS, ACCURACY)} }}",
}  # fmt: skip
LARGE = CONV.replace("num_output: 8", "num_output: 32").replace("conv1", "large", 1)
DEPLOY = """
layer { name: "in" type: "Input" top: "data" include { stage: "deploy" }
  input_param { shape { dim: 1 dim: 2 dim: 5 dim: 5 } } }
"""
PROB = 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" include { stage: "deploy" } }\n'
NO_DEPLOY = 'exclude { stage: "deploy" }'
ALTERNATIVES = CONV.replace("RULE", 'include { stage: "small" }') + LARGE.replace("RULE", 'include { stage: "large" }')
IN_SMALL = 'train_state { stage: "small" } test_state { stage: "small" }'
STAGES = {
    "stages": inside(DATA, ALTERNATIVES, RELU, FC, LOSS, ACCURACY, more=IN_SMALL),
    "levels": inside(
        DATA, LARGE.replace("RULE", "include { max_level: 0 }"), CONV.replace("RULE", "include { min_level: 1 }"),
        RELU, FC, LOSS, ACCURACY, more="train_state { level: 1 } test_state { level: 2 }",
    ),
    "deploy": inside(
        DEPLOY, DATA.replace("dummy_data_param", f"{NO_DEPLOY} dummy_data_param"), CONV, RELU, FC,
        LOSS.replace("EVER", NO_DEPLOY),
        ACCURACY.replace("include { phase: TEST }", 'include { phase: TEST not_stage: "deploy" }'), PROB,
    ),
}  # fmt: skip

CAFFE = """
import json, sys, caffe
caffe.set_mode_cpu()
for path in sys.argv[1:]:
    solver = caffe.get_solver(path)
    nets = [solver.net, *solver.test_nets]
    solver.step(3)
    told = []
    for net in nets:
        if net is not solver.net:
            net.share_with(solver.net)
        net.forward()
        shapes = {name: [list(blob.data.shape) for blob in blobs] for name, blobs in net.params.items()}
        told.append({"shapes": shapes, "out": {name: float(net.blobs[name].data.sum()) for name in net.outputs}})
    print(json.dumps(told), flush=True)
"""


def on_caffe(folder: Path, texts: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """What each net of each solver has and gives after three steps: its weights' shapes and its outputs."""
    paths = [folder / f"{name}.made.prototxt" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "GLOG_minloglevel": "2"}
    (folder / "snapshots").mkdir(exist_ok=True)
    command = [sys.executable, "-c", CAFFE, *map(str, paths)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(texts), (list(texts)[len(told)], done.stderr[-1000:])
    return dict(zip(texts, told, strict=True))


def on(folder: Path, text: str, *variants: dict[str, object]) -> OnBase:
    path = folder / "base.prototxt"
    path.write_text(text)
    named = [{"name": f"v{number}", **one} for number, one in enumerate(variants)]
    head = {"sweep": "m", "title": "t", "studies": "s", "source": "us", "name": "n", "label": "l"}
    return generate_on_base([Sweep.model_validate({**head, "variants": named})], load_base(path))


def layers(text: str, name: str = "net_param") -> list[Any]:
    solver = text_format.Parse(text, caffe_messages().SolverParameter())
    net = solver.test_net_param[0] if name == "test_net_param" else getattr(solver, name)
    return list(net.layer)


@pytest.mark.caffe
@pytest.mark.slow
@pytest.mark.parametrize("name", [*TWICE, *STAGES])
def test_a_net_written_for_each_phase_or_stage_does_what_one_written_once_does(name: str, tmp_path: Path) -> None:
    once, other = (on(tmp_path, text, *VARIANTS) for text in (ONCE, (TWICE | STAGES)[name]))
    assert once.refused == other.refused == {}
    expected, told = on_caffe(tmp_path, once.texts), on_caffe(tmp_path, other.texts)
    for variant, nets in told.items():
        assert nets[1]["shapes"] == nets[0]["shapes"], "what the test net has, the training net trains"
        assert [net["shapes"] for net in nets] == [net["shapes"] for net in expected[variant]], variant
        for one, same in zip(nets, expected[variant], strict=True):
            assert one["out"] == {key: pytest.approx(same["out"][key], rel=1e-4) for key in one["out"]}, variant


@pytest.mark.parametrize("name", TWICE)
def test_what_is_put_in_has_one_name_in_both_phases(name: str, tmp_path: Path) -> None:
    (text,) = on(tmp_path, TWICE[name], {"bn": "after", "bn_scale": True}).texts.values()
    assert set(re.findall(r'name: "(\S*(?:bn|scale)\S*)"', text)) == {"conv1/bn", "conv1/scale"}


PAIR = """
layer { name: "conv1/bn" type: "BatchNorm" bottom: "conv1" top: "conv1" RULE
  batch_norm_param { use_global_stats: STATS } }
"""


def test_a_batch_norm_of_each_phase_is_moved_as_one(tmp_path: Path) -> None:
    pair = PAIR.replace("RULE", TRAIN).replace("STATS", "false") + PAIR.replace("RULE", TEST).replace("STATS", "true")
    made = on(tmp_path, inside(DATA, CONV, pair, RELU, FC, LOSS, ACCURACY), {"bn": "after"}, {"bn_scale": True})
    (norm,) = [one for one in layers(made.texts["v0"]) if one.type == "BatchNorm"]
    assert norm.name == "conv1/bn"
    assert not norm.batch_norm_param.HasField("use_global_stats"), "those of the batch in training, the mean in tests"
    scales = [one for one in layers(made.texts["v1"]) if one.type == "Scale"]
    assert [(one.name, one.include[0].phase) for one in scales] == [("conv1/scale", 0), ("conv1/scale", 1)]


def test_twins_of_two_names_would_never_learn_in_the_test_net(tmp_path: Path) -> None:
    two = RELU.replace("RULE", TRAIN) + RELU.replace("RULE", TEST).replace("relu1", "relu_test")
    made = on(
        tmp_path, inside(DATA, CONV, two, FC, LOSS, ACCURACY), {"bn": "before"}, {"activation": "prelu"}, {"width": 2}
    )
    never = "would be in a test net alone and never learn: give what is the same in both phases one name"
    assert list(made.refused) == ["v0", "v1"]
    assert made.refused["v0"] == f"layer conv1/bn_2 (BatchNorm): it {never}"
    assert made.refused["v1"] == f"layer prelu_test (PReLU): it {never}"


def test_our_rrelu_is_no_activation_to_vary_but_stays_beside_other_changes(tmp_path: Path) -> None:
    rrelu = on(tmp_path, ONCE, {"activation": "rrelu"}).texts["v0"]
    told = on(
        tmp_path, rrelu, {"activation": "relu"}, {"bn": "before"}, {"width": 2}, {"pool": "ave"}, {"classifier": "new"}
    )
    assert list(told.texts) == ["v4"]
    for number, what in enumerate(("activation", "bn", "width")):
        assert (
            f"an RReLU is composed of it and others, which {what} would not change as one" in told.refused[f"v{number}"]
        )


def test_other_stages_keep_their_layers_and_their_batches(tmp_path: Path) -> None:
    small, large = (
        DATA.replace("dummy_data_param", f'include {{ stage: "{stage}" }} dummy_data_param').replace(
            "dim: 6", f"dim: {size}"
        )
        for stage, size in (("small", 6), ("large", 7))
    )
    text = inside(small, large, ALTERNATIVES, RELU, FC, LOSS, ACCURACY, more=IN_SMALL)
    (made,) = on(tmp_path, text, {"width": 2, "filler": "msra"}).texts.values()
    convolutions = {one.name: one.convolution_param for one in layers(made) if one.type == "Convolution"}
    said = [(name, p.num_output, p.weight_filler.type) for name, p in convolutions.items()]
    assert said == [("conv1", 16, "msra"), ("large", 32, "xavier")]
    assert [one.name for one in layers(made)][:4] == ["data", "data", "conv1", "large"]
    read = 'layer { name: "data" type: "Data" top: "data" top: "label" include { stage: "STAGE" } '
    read += "data_param { batch_size: SIZE } }"
    staged = "".join(
        read.replace("STAGE", stage).replace("SIZE", size) for stage, size in (("small", "16"), ("large", "64"))
    )
    made = on(tmp_path, text.replace(small, staged).replace(large, ""), {"batch_size": 8})
    assert made.refused == {}
    sizes = [one.data_param.batch_size for one in layers(made.texts["v0"]) if one.type == "Data"]
    assert sizes == [8, 16, 64], "in TRAIN, TEST, and the stage that is not built"


def test_each_test_net_of_a_solver_is_one_of_the_nets(tmp_path: Path) -> None:
    """Two tests, each with a stage; what is only in one of them is found, too."""
    drop = 'layer { name: "drop_X" type: "Dropout" bottom: "conv1" top: "conv1" include { stage: "X" } }'
    drops = [drop.replace("X", stage) for stage in ("val", "other", "none")]
    states = 'test_iter: 1 train_state { stage: "t" } test_state { stage: "val" } test_state { stage: "other" }'
    (made,) = on(
        tmp_path, inside(DATA, CONV, RELU, *drops, FC, LOSS, ACCURACY, more=states), {"dropout": 0}
    ).texts.values()
    assert [one.name for one in layers(made) if one.type == "Dropout"] == ["drop_none"]


@pytest.mark.caffe
def test_the_stage_for_inference_still_builds(tmp_path: Path) -> None:
    """Blobs that are renamed are renamed for its layers, too; RReLU counts the pictures of the training net."""
    made = on(tmp_path, STAGES["deploy"], *VARIANTS, {"activation": "elu", "bn": "after", "dropout": 0.1})
    assert made.refused == {}
    code = (
        'import sys, caffe; [caffe.Net(path, caffe.TEST, stages=["deploy"]).forward()["prob"] for path in sys.argv[1:]]'
    )
    paths = []
    for name, text in made.texts.items():
        paths.append(tmp_path / f"{name}.net.prototxt")
        solver = text_format.Parse(text, caffe_messages().SolverParameter())
        paths[-1].write_text(text_format.MessageToString(solver.net_param))
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True, capture_output=True)


EMBEDDING = FC.replace('"fc"', '"emb"').replace("num_output: 3", "num_output: 16")
BEHIND = 'layer { name: "relu2" type: "ReLU" bottom: "emb" top: "embr" }\n'
LENGTH = (
    'layer { name: "length" type: "Reduction" bottom: "embr" top: "length" reduction_param { operation: SUMSQ } }\n'
)
METRIC = (
    f"{SOLVER} train_net_param {{ {net(DATA, CONV, RELU, EMBEDDING, BEHIND, FC.replace('conv1', 'embr'), LOSS)} }}"
    f"test_net_param {{ {net(DATA, CONV, RELU, EMBEDDING, BEHIND, LENGTH)} }}"
)


@pytest.mark.caffe
@pytest.mark.slow
def test_a_test_net_without_the_classifier_is_changed_as_the_training_net_is(tmp_path: Path) -> None:
    variants = [
        *VARIANTS[:-2],
        {"freeze": "fc"},
        {"lr_mults": {"fc": 10}},
        {"activation": "prelu", "bn": "after", "width": 2},
    ]
    made = on(tmp_path, METRIC, *variants)
    assert made.refused == {}
    for variant, (train, test) in on_caffe(tmp_path, made.texts).items():
        head = {name for name in train["shapes"] if name.startswith("fc")}
        assert test["shapes"] == {name: shape for name, shape in train["shapes"].items() if name not in head}, variant
    wide = on_caffe(tmp_path, {"wide": made.texts["v12"]})["wide"][1]["shapes"]
    assert (wide["emb"][1], wide["emb/bn"][0], wide["prelu2"][0]) == ([32], [32], [32])
    (new,) = [one for one in layers(made.texts["v9"], "train_net_param") if one.name == "fc_new"]
    assert new.inner_product_param.num_output == 4
    (frozen,) = [one for one in layers(made.texts["v10"], "train_net_param") if one.name == "emb"]
    assert [spec.lr_mult for spec in frozen.param] == [0, 0]


def test_a_classifier_that_only_the_training_net_judges_is_new_in_the_test_net_too(tmp_path: Path) -> None:
    scores = 'layer { name: "best" type: "ArgMax" bottom: "fc" top: "best" }\n'
    text = f"{SOLVER} train_net_param {{ {net(DATA, FC.replace('conv1', 'data'), LOSS)} }}"
    text += f"test_net_param {{ {net(DATA, FC.replace('conv1', 'data'), scores)} }}"
    (made,) = on(tmp_path, text, {"classifier": "new", "classes": 7}).texts.values()
    for name in ("train_net_param", "test_net_param"):
        (fc,) = [one for one in layers(made, name) if one.type == "InnerProduct"]
        assert (fc.name, fc.inner_product_param.num_output) == ("fc_new", 7)


def test_a_net_that_is_never_tested_needs_no_data_for_tests(tmp_path: Path) -> None:
    """Plain Caffe trains it: what is missing in TEST is no reason to refuse a change."""
    text = inside(DATA.replace("dummy_data_param", f"{TRAIN} dummy_data_param"), CONV, RELU, FC, LOSS)
    made = on(tmp_path, re.sub(r"test_iter: 1 test_interval: 50", "", text), *VARIANTS)
    assert made.refused == {}


NORM = 'layer { name: "norm" type: "BatchNorm" bottom: "conv1" top: "norm" }\n'
BRANCH = """
layer { name: "relu2" type: "ReLU" bottom: "norm" top: "norm" }
layer { name: "conv2" type: "Convolution" bottom: "norm" top: "conv2"
  convolution_param { num_output: 8 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "conv1" bottom: "conv2" top: "sum" }
"""


@pytest.mark.caffe
def test_a_shortcut_stays_what_it_was_when_a_layer_beside_it_is_taken_out(tmp_path: Path) -> None:
    """A residual block that normalises first: its ReLU, in place behind the BatchNorm, must not reach the shortcut."""
    text = inside(DATA, CONV, NORM, BRANCH, FC.replace('"conv1"', '"sum"'), LOSS, ACCURACY)
    (made,) = on(tmp_path, text, {"bn": "none"}).texts.values()
    by_hand = text.replace(NORM, "").replace('bottom: "norm" top: "norm"', 'bottom: "conv1" top: "norm"')
    assert {one.name: (list(one.bottom), list(one.top)) for one in layers(made)}["relu2"] == (["conv1"], ["norm"])
    told = on_caffe(tmp_path, {"made": made, "by_hand": by_hand})
    assert told["made"] == told["by_hand"]


def test_a_layer_of_one_phase_is_not_taken_out_where_the_others_would_write_over_more(tmp_path: Path) -> None:
    drop = f'layer {{ name: "drop" type: "Dropout" bottom: "conv1" top: "x" {TRAIN} }}'
    twice = f'layer {{ name: "twice" type: "Power" bottom: "conv1" top: "x" {TEST} power_param {{ scale: 2 }} }}'
    other = f'layer {{ name: "sum" type: "Reduction" bottom: "conv1" top: "sum" {TEST} }}'
    fc = FC.replace('"conv1"', '"x"')
    for parts in ([drop, twice, other], [drop, other, twice]):
        made = on(tmp_path, inside(DATA, CONV, *parts, fc, LOSS, ACCURACY), {"dropout": 0}, {"dropout": 0.2})
        assert list(made.refused) == ["v0"]
        assert made.refused["v0"].startswith(
            "layer twice (Power): it would write over what others read, where the other"
        )
    (made,) = on(tmp_path, inside(DATA, CONV, drop, twice, fc, LOSS, ACCURACY), {"dropout": 0}).texts.values()
    assert {one.name: (list(one.bottom), list(one.top)) for one in layers(made)}["twice"] == (["conv1"], ["conv1"])


def test_a_name_of_another_stage_is_said_to_be_one(tmp_path: Path) -> None:
    varied: list[dict[str, object]] = [
        {"freeze": "large"},
        {"lr_mults": {"large": 2}},
        {"edit": [{"layer": "large", "name": "x"}]},
    ]
    why = on(tmp_path, STAGES["stages"], *varied).refused.values()
    assert [one.partition("large: ")[2] or one.partition("large}: ")[2] for one in why] == [
        "it is of a stage or level that the solver does not build"
    ] * 3
