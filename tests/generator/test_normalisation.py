"""BatchNorm that the user's net has: it stays, or it is moved, with its Scale layer, its settings and its name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from caffebench.generator.base import generate_on_base, load_base
from caffebench.generator.variants.catalog import load_sweep

sys.path.insert(0, str(Path(__file__).parent))
from base_matrix import make_pictures, two_steps
from test_base import SOLVER, differences, layers, on, written

DATA = 'layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "data/mnist/train_lmdb" SIZE } }\n'
CONV = """layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 5 weight_filler { type: "xavier" } } }
"""
NORM = """layer {{ name: "norm{0}" type: "BatchNorm" bottom: "{1}" top: "n" param {{ lr_mult: 0 }} {2}
  batch_norm_param {{ moving_average_fraction: 0.9 {3} }} }}
"""
SCALE = """layer {{ name: "sc" type: "Scale" bottom: "n" top: "{0}" param {{ decay_mult: 0.5 }} param {{ lr_mult: 3 }}
  scale_param {{ filler {{ value: 0.5 }} bias_term: true }} }}
"""
RELU = 'layer {{ name: "relu1" type: "ReLU" bottom: "{0}" top: "{1}" }}\n'
FC = """layer {{ name: "fc" type: "InnerProduct" bottom: "{0}" top: "fc"
  inner_product_param {{ num_output: 10 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
"""
PAIR = "".join(
    NORM.format("", "conv1", f"param {{ lr_mult: 0 }} param {{ lr_mult: 0 }} include {{ phase: {phase} }}", stats)
    for phase, stats in (("TRAIN", "use_global_stats: false"), ("TEST", "use_global_stats: true"))
)
NETS = {
    "before": NORM.format("", "conv1", "", "") + SCALE.format("s") + RELU.format("s", "s") + FC.format("s"),
    "after": RELU.format("conv1", "r") + NORM.format("", "r", "", "") + SCALE.format("s") + FC.format("s"),
    "pair": PAIR + SCALE.format("n") + RELU.format("n", "n") + FC.format("n"),
}


def base_of(folder: Path, name: str) -> Path:
    data = DATA.replace("SIZE", "batch_size: 4 backend: LMDB")
    return written(folder, name, f"{SOLVER}net_param {{\n{data}{CONV}{NETS[name]}}}\n")


@pytest.mark.parametrize("name", NETS)
def test_the_scale_of_the_user_stays_and_goes_with_its_batchnorm(name: str, tmp_path: Path) -> None:
    base = base_of(tmp_path, name)
    here, there = ("after", "before") if name == "after" else ("before", "after")
    same, moved, without, none = on(
        base, {"bn": here}, {"bn": there}, {"bn": here, "bn_scale": False}, {"bn": "none"}
    ).texts.values()
    assert differences(tmp_path, base, same) == []
    old, new = layers(base.read_text()), layers(moved)
    assert old.keys() == new.keys()
    assert old["sc"].scale_param == new["sc"].scale_param
    assert old["sc"].param == new["sc"].param
    rates = [[spec.lr_mult for spec in one["norm"].param] for one in (old, new)]
    assert rates[0] == rates[1]
    assert new["norm"].batch_norm_param.moving_average_fraction == pytest.approx(0.9)
    order = [one for one in new if one in ("norm", "sc", "relu1")]
    assert order == (["norm", "sc", "relu1"] if there == "before" else ["relu1", "norm", "sc"])
    assert old.keys() - layers(without).keys() == {"sc"}
    assert old.keys() - layers(none).keys() == {"sc", "norm"}


def test_the_bundled_study_of_scale_layers_takes_out_those_of_the_user(tmp_path: Path) -> None:
    made = generate_on_base([load_sweep("bn_order")], load_base(base_of(tmp_path, "before")))
    kinds = {name: [one.type for one in layers(text).values()].count("Scale") for name, text in made.texts.items()}
    assert kinds == {"bn_before": 0, "bn_before_scale": 1, "bn_after": 0, "bn_after_scale": 1}


@pytest.mark.caffe
def test_caffe_trains_what_was_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path)
    (tmp_path / "snapshots").mkdir()
    paths = []
    for name in NETS:
        made = on(base_of(tmp_path, name), {"bn": "before"}, {"bn": "after"})
        paths += [written(tmp_path, f"{name}_{variant}", text) for variant, text in made.texts.items()]
    assert {path.name: wrong for path, wrong in two_steps(paths, tmp_path).items() if wrong} == {}
