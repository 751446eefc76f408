"""Two prototxt files reduced to meaning: what must be equal is, and what must differ is told in Caffe's terms."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffebench.common.errors import InputError
from caffebench.generator.compare import compare, compare_as_deploy
from caffebench.generator.meaning import LAYER_TYPES, layer_settings, load_prototxt

SOLVER = """
test_iter: 10 test_interval: 100 base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 500 max_iter: 1000
momentum: 0.9 weight_decay: 0.0005 snapshot: 100 snapshot_prefix: "snapshots/a"
"""
DATA = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mean_value: 104 mean_value: 117 mean_value: 123 crop_size: 24 mirror: true }
  data_param { source: "train_lmdb" batch_size: 16 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { mean_value: 104 mean_value: 117 mean_value: 123 crop_size: 24 }
  data_param { source: "test_lmdb" batch_size: 10 backend: LMDB } }
"""
CONV = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
"""
RELU = 'layer { name: "relu" type: "ReLU" bottom: "conv" top: "relu" }\n'
FC = """
layer { name: "fc" type: "InnerProduct" bottom: "relu" top: "fc" inner_product_param { num_output: 10 } }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n'
NET = DATA + CONV + RELU + FC + LOSS
FULL = SOLVER + "net_param {" + NET + "}"


def differences(tmp_path: Path, a: str, b: str) -> list[str]:
    files = []
    for name, text in (("a", a), ("b", b)):
        path = tmp_path / f"{name}.prototxt"
        path.write_text(text)
        files.append(load_prototxt(path))
    return [str(one) for one in compare(*files)]


def changed(old: str, new: str, text: str = FULL) -> str:
    assert old in text
    return text.replace(old, new)


BN = """
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
"""
BN_TWINS = """
layer { name: "bn" type: "BatchNorm" include { phase: TRAIN } bottom: "conv" top: "bn"
  param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 decay_mult: 3 }
  batch_norm_param { use_global_stats: false } }
layer { name: "bn" type: "BatchNorm" include { phase: TEST } bottom: "conv" top: "bn"
  batch_norm_param { use_global_stats: true eps: 1e-5 } }
"""
V1 = """
layers { name: "data" type: DATA top: "data" top: "label" include: { phase: TRAIN }
  data_param { source: "x" batch_size: 16 backend: LMDB crop_size: 24 mirror: true scale: 0.5 } }
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  weight_decay: 0 convolution_param { num_output: 8 kernel_size: 3 stride: 2 } }
layers { name: "r" type: RELU bottom: "c" top: "c" }
layers { name: "s" type: SPLIT bottom: "c" top: "c1" top: "c2" }
layers { name: "cat" type: CONCAT bottom: "c1" bottom: "c2" top: "cat" concat_param { concat_dim: 1 } }
layers { name: "ip" type: INNER_PRODUCT bottom: "cat" top: "ip" inner_product_param { num_output: 10 } }
layers { name: "l" type: SOFTMAX_LOSS bottom: "ip" bottom: "label" }
"""
V1_TODAY = """
layer { name: "data" type: "Data" top: "data" top: "label" include: { phase: TRAIN }
  transform_param { crop_size: 24 mirror: true scale: 0.5 } data_param { batch_size: 16 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "c" param { lr_mult: 1 decay_mult: 1 }
  param { lr_mult: 2 decay_mult: 0 } convolution_param { num_output: 8 kernel_h: 3 kernel_w: 3
  stride: 2 stride: 2 } }
layer { type: "ReLU" bottom: "c" top: "r" }
layer { type: "Concat" bottom: "r" bottom: "r" top: "cat" }
layer { name: "fc" type: "InnerProduct" bottom: "cat" top: "ip" inner_product_param { num_output: 10 } }
layer { type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" loss_weight: 1 }
"""
V0 = """
input: "data" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 8
layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "data" top: "padded" }
layers { layer { name: "c" type: "conv" num_output: 6 kernelsize: 3 group: 3 biasterm: true
  weight_filler { type: "gaussian" std: 0.1 } blobs_lr: 1. blobs_lr: 2. weight_decay: 1. weight_decay: 0. }
  bottom: "padded" top: "c" }
layers { layer { name: "p" type: "pool" pool: AVE kernelsize: 2 stride: 2 } bottom: "c" top: "p" }
layers { layer { name: "n" type: "lrn" local_size: 3 alpha: 0.01 beta: 0.5 } bottom: "p" top: "n" }
layers { layer { name: "d" type: "dropout" dropout_ratio: 0.3 } bottom: "n" top: "n" }
layers { layer { name: "ip" type: "innerproduct" num_output: 5 } bottom: "n" top: "ip" }
layers { layer { name: "prob" type: "softmax" } bottom: "ip" top: "prob" }
"""
V0_TODAY = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "c" param { lr_mult: 1 decay_mult: 1 }
  param { lr_mult: 2 decay_mult: 0 } convolution_param { num_output: 6 kernel_size: 3 pad: 2 group: 3
  weight_filler { type: "gaussian" std: 0.1 } } }
layer { type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { type: "LRN" bottom: "p" top: "n" lrn_param { local_size: 3 alpha: 0.01 beta: 0.5 } }
layer { type: "Dropout" bottom: "n" top: "d" dropout_param { dropout_ratio: 0.3 } }
layer { name: "fc" type: "InnerProduct" bottom: "d" top: "ip" inner_product_param { num_output: 5 } }
layer { type: "Softmax" bottom: "ip" top: "prob" }
"""
TWO_HEADS = """
layer { name: "top1" type: "Accuracy" bottom: "fc" bottom: "label" top: "t1" }
layer { name: "top5" type: "Accuracy" bottom: "fc" bottom: "label" top: "t5" accuracy_param { top_k: 5 } }
layer { name: "top3" type: "Accuracy" bottom: "fc" bottom: "label" top: "t3" accuracy_param { top_k: 3 } }
"""
MAXOUT = """
layer { type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "p" type: "InnerProduct" bottom: "x" top: "p" inner_product_param { num_output: 3 } }
layer { name: "q" type: "InnerProduct" bottom: "x" top: "q" inner_product_param { num_output: 3 } }
layer { name: "m" type: "Eltwise" bottom: "p" bottom: "q" top: "m" eltwise_param { operation: MAX } }
"""

DROPPED = RELU.replace("ReLU", "Dropout")
TWIN_FC = "".join(FC.replace('"fc" type', f'"fc" include {{ phase: {phase} }} type') for phase in ("TRAIN", "TEST"))
HEADS = """
layer { name: "a" include { phase: PHASE } type: "Input" top: "a" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "p" include { phase: PHASE } type: "InnerProduct" bottom: "a" top: "p"
  inner_product_param { num_output: 3 } }
layer { name: "q" include { phase: PHASE } type: "InnerProduct" bottom: "a" top: "q"
  inner_product_param { num_output: 3 } }
layer { name: "join" include { phase: PHASE } type: "Concat" bottom: "p" bottom: "q" top: "join" }
"""
TWIN_HEADS = HEADS.replace("PHASE", "TRAIN") + HEADS.replace("PHASE", "TEST")
SWAPPED = HEADS.replace('name: "p"', "name: '?'").replace('name: "q"', 'name: "p"').replace("'?'", '"q"')
SWAPPED_HEADS = HEADS.replace("PHASE", "TRAIN") + SWAPPED.replace("PHASE", "TEST")

SAME = {
    "nothing changed": (FULL, FULL),
    "layer names": (FULL, FULL.replace('name: "conv"', 'name: "first"')),
    "layer names in both of a pair of layers": (
        changed(FC, TWIN_FC),
        changed(FC, TWIN_FC.replace('name: "fc"', 'name: "score"')),
    ),
    "other names in an order of their own": (
        SOLVER + "net_param {" + TWIN_HEADS + "}",
        SOLVER + "net_param {" + SWAPPED.replace("PHASE", "TRAIN") + SWAPPED.replace("PHASE", "TEST") + "}",
    ),
    "names of a fork's layers without weights": (
        'weights: "a"' + changed('"ReLU"', '"RReLU"'),
        'weights: "b"' + changed('name: "relu" type: "ReLU"', 'name: "r" type: "RReLU"'),
    ),
    "names of layers without weights": ('weights: "a"' + FULL, 'weights: "b"' + changed('name: "relu"', 'name: "r"')),
    "blob names": (FULL, FULL.replace('"relu"', '"r"')),
    "in-place": (FULL, FULL.replace('top: "relu"', 'top: "conv"').replace('bottom: "relu"', 'bottom: "conv"')),
    "paths and prefix": (FULL, FULL.replace("train_lmdb", "/else/where").replace("snapshots/a", "b")),
    "kernel as height and width": (FULL, changed("kernel_size: 3", "kernel_h: 3 kernel_w: 3")),
    "kernel given per axis": (FULL, changed("kernel_size: 3", "kernel_size: 3 kernel_size: 3")),
    "stride and pad at their defaults": (FULL, changed("kernel_size: 3", "kernel_size: 3 stride: 1 pad_w: 0")),
    "list syntax": (FULL, changed("kernel_size: 3", "kernel_size: [3, 3]")),
    "solver type": (SOLVER + "solver_type: ADAM momentum2: 0.9", SOLVER + 'type: "Adam" momentum2: 0.9'),
    "default solver type": (FULL, 'type: "SGD"' + FULL),
    "a field that the policy does not read": (FULL, "power: 0.5 rms_decay: 0.2" + FULL),
    "default multipliers": (FULL, changed("convolution_param", "param { lr_mult: 1 } convolution_param")),
    "decay at no learning rate": (
        changed("convolution_param", "param { lr_mult: 0 decay_mult: 1 } convolution_param"),
        changed("convolution_param", "param { lr_mult: 0 decay_mult: 0 } convolution_param"),
    ),
    "filler fields without effect": (FULL, changed('type: "xavier"', 'type: "xavier" std: 0.5 value: 3')),
    "one mean for all channels": (
        changed("mean_value: 104 mean_value: 117 mean_value: 123", "mean_value: 78"),
        changed("mean_value: 104 mean_value: 117 mean_value: 123", "mean_value: [78, 78, 78]"),
    ),
    "one BatchNorm or one for each phase": (
        SOLVER + "net_param {" + DATA + CONV + BN + RELU + FC + LOSS + "}",
        SOLVER + "net_param {" + DATA + CONV + BN_TWINS + RELU.replace('"conv"', '"bn"') + FC + LOSS + "}",
    ),
    "not a number": (changed("base_lr: 0.01", "base_lr: nan"), changed("base_lr: 0.01", "base_lr: nan")),
    "include or exclude": (FULL, changed("include { phase: TRAIN }", "exclude { phase: TEST }")),
    "order of independent layers": (MAXOUT, "\n".join(MAXOUT.splitlines()[i] for i in (1, 3, 2, 4))),
    "layers of V1": (V1, V1_TODAY),
    "layers of V0": (V0, V0_TODAY),
    "settings of another type": (FULL, changed('type: "ReLU"', 'type: "ReLU" pooling_param { stride: 2 }')),
    "old transformation fields, which today's layers ignore": (
        FULL,
        changed("batch_size: 16", "batch_size: 16 scale: 0.5 mirror: true"),
    ),
    "Silence": (FULL, changed(LOSS, LOSS + 'layer { type: "Silence" bottom: "label" }')),
    "quotes, commas and comments": (
        FULL,
        changed('name: "conv"', "name: 'co' 'nv', # 'x' {\n").replace("num_output: 8", "num_output: 0x8;"),
    ),
}

BLOBS = "".join(
    f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: [4, 6, 8, 8] }} }} }}\n'
    for name in "xy"
)
LSTM = 'layer { name: "l" type: "LSTM" bottom: "x" bottom: "y" top: "l" %s recurrent_param { num_output: 3 } }'
SHARED = "".join(
    f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" param {{ name: "w" ?{number} }} '
    f"inner_product_param {{ num_output: 2 !{number} }} }}\n"
    for number, (name, bottom) in enumerate(("px", "qy"))
)
XAVIER = 'weight_filler { type: "xavier" }'


def two(a: str, b: str, around: str = "", *, data: str = "") -> tuple[str, str]:
    """Two nets of one layer that is written in two ways."""
    head = f'{data}layer {{ name: "l" {around}'
    return f"{head} {a} }}", f"{head} {b} }}"


def shared(*words: str) -> str:
    text = SHARED
    for mark, word in zip(("?0", "!0", "?1", "!1"), words, strict=True):
        text = text.replace(mark, word)
    return BLOBS + text


DUMMY = 'type: "DummyData" top: "a" top: "b"'
SAME |= {
    "parameters of an LSTM": (BLOBS + LSTM % "", BLOBS + LSTM % "param {} param {} param { decay_mult: 1 }"),
    "one shape or one for each top": two(
        "dummy_data_param { shape { dim: [2, 3] } data_filler { std: 2 } }",
        "dummy_data_param { shape { dim: [2, 3] } shape { dim: [2, 3] } data_filler { std: 2 } data_filler {} }",
        DUMMY,
    ),
    "no filler or 0": two(
        "dummy_data_param { shape { dim: 2 } }", "dummy_data_param { shape { dim: 2 } data_filler {} }", DUMMY
    ),
    "old sizes of made-up data": two(
        "dummy_data_param { num: 2 channels: 3 channels: 5 height: 1 width: 1 }",
        "dummy_data_param { shape { dim: [2, 3, 1, 1] } shape { dim: [2, 5, 1, 1] } }",
        DUMMY,
    ),
    "one shape or two of an Input": two(
        "input_param { shape { dim: 2 } }",
        "input_param { shape { dim: 2 } shape { dim: 2 } }",
        'type: "Input" top: "a" top: "b"',
    ),
    "points that cut equal parts": two(
        "",
        "slice_param { slice_point: 2 slice_point: 4 }",
        'type: "Slice" bottom: "x" top: "a" top: "b" top: "c"',
        data=BLOBS,
    ),
    "an axis from the end": two(
        "concat_param { axis: -3 }",
        "concat_param { axis: 1 }",
        'type: "Concat" bottom: "x" bottom: "y" top: "a"',
        data=BLOBS,
    ),
    "an end of a Reshape": two(
        "reshape_param { shape { dim: 1 dim: 8 } axis: -2 }",
        "reshape_param { shape { dim: 1 dim: 8 } axis: 3 }",
        'type: "Reshape" bottom: "x" top: "a"',
        data=BLOBS,
    ),
    "an offset for all axes": two(
        "", "crop_param { axis: 2 offset: 0 offset: 0 }", 'type: "Crop" bottom: "x" bottom: "y" top: "a"'
    ),
    "a kernel of three axes": two(
        "convolution_param { num_output: 2 kernel_size: 3 }",
        "convolution_param { num_output: 2 kernel_size: [3, 3, 3] pad: [0, 0, 0] }",
        'type: "Convolution" bottom: "v" top: "a"',
    ),
    "the filler of a weight that another layer owns": (shared("", XAVIER, "", ""), shared("", XAVIER, "", XAVIER)),
    "a rate of a weight that two layers share": (shared("", "", "lr_mult: 2", ""), shared("lr_mult: 2", "", "", "")),
    "the phase of a layer that asks for none": (FULL, changed('type: "ReLU"', 'type: "ReLU" phase: TEST')),
}


@pytest.mark.parametrize("case", SAME)
def test_one_meaning_in_two_spellings(tmp_path: Path, case: str) -> None:
    a, b = SAME[case]
    assert differences(tmp_path, a, b) == []
    assert differences(tmp_path, b, a) == []


OTHER = {
    "solver": (FULL, changed("base_lr: 0.01", "base_lr: 0.005"), ["solver: base_lr 0.01 -> 0.005"]),
    "policy": (
        FULL,
        changed('"step"', '"poly" power: 2'),
        [
            "solver: lr_policy step -> poly",
            "solver: gamma 0.1 -> none",
            "solver: stepsize 500 -> none",
            "solver: power none -> 2",
        ],
    ),
    "one phase only": (
        FULL,
        changed("batch_size: 16", "batch_size: 32"),
        ["data (Data) in TRAIN: data_param.batch_size 16 -> 32"],
    ),
    "both phases told once": (
        FULL,
        changed("num_output: 8", "num_output: 9"),
        ["conv (Convolution): convolution_param.num_output 8 -> 9"],
    ),
    "kernel": (
        FULL,
        changed("kernel_size: 3", "kernel_h: 3 kernel_w: 1"),
        ["conv (Convolution): convolution_param.kernel_size 3 3 -> 3 1"],
    ),
    "type": (FULL, changed('"ReLU"', '"TanH"'), ["relu (ReLU): type ReLU -> TanH"]),
    "a layer more": (
        FULL,
        changed(FC, BN.replace("conv", "relu") + FC),
        ["bn (BatchNorm): only in B, after relu"],
    ),
    "a layer less": (
        FULL,
        changed(RELU, "").replace('bottom: "relu"', 'bottom: "conv"'),
        ["relu (ReLU): only in A, after conv"],
    ),
    "statistics in TEST": (
        changed(RELU, BN + RELU),
        changed(RELU, BN.replace("type", "batch_norm_param { use_global_stats: false } type") + RELU),
        ["bn (BatchNorm) in TEST: batch_norm_param.use_global_stats true -> false"],
    ),
    "wiring": (
        FULL,
        changed('bottom: "relu" top: "fc"', 'bottom: "conv" top: "fc"'),
        ["fc (InnerProduct): bottom from relu -> from conv"],
    ),
    "one layer twice or two layers": (
        MAXOUT,
        MAXOUT.replace('bottom: "q"', 'bottom: "p"').replace('top: "q"', 'top: "p2"'),
        None,
    ),
    "which of a layer's tops": (
        'layer { name: "s" type: "Slice" top: "a" top: "b" } layer { name: "r" type: "ReLU" bottom: "a" }',
        'layer { name: "s" type: "Slice" top: "a" top: "b" } layer { name: "r" type: "ReLU" bottom: "b" }',
        ["r (ReLU): bottom from top 0 of s -> from top 1 of s"],
    ),
    "a fork's field": (
        FULL,
        changed("crop_size: 24", "crop_size: 24 resize_param { height: 144 mode: FIT }"),
        ["data (Data): transform_param.resize_param (unknown to Caffe) none -> height: 144 mode: FIT"],
    ),
    "shared parameters": (
        MAXOUT,
        MAXOUT.replace('type: "InnerProduct"', 'type: "InnerProduct" param { name: "w" }'),
        ["q (InnerProduct): param[0] shared with none -> param[0] of p"],
    ),
    "outputs of one kind stay paired": (
        FULL.replace(LOSS, LOSS + TWO_HEADS),
        FULL.replace(LOSS, LOSS + TWO_HEADS).replace("num_output: 8", "num_output: 12"),
        ["conv (Convolution): convolution_param.num_output 8 -> 12"],
    ),
    "no test net": (FULL, changed("test_iter: 10", ""), None),
    "a test layer that has not the weights of a training layer": (
        changed(FC, TWIN_FC),
        changed(FC, TWIN_FC.replace('"fc" include { phase: TEST', '"fc_v2" include { phase: TEST')),
        ["fc (InnerProduct) in TEST: weights those of fc in TRAIN -> none of TRAIN's"],
    ),
    "test layers that have each other's weights": (
        SOLVER + "net_param {" + TWIN_HEADS + "}",
        SOLVER + "net_param {" + SWAPPED_HEADS + "}",
        ["join (Concat) in TEST: bottoms in another order: p, q -> q, p"],
    ),
    "what weights are loaded into": (
        'weights: "a.caffemodel"' + FULL,
        'weights: "b.caffemodel"' + changed('name: "fc"', 'name: "fc_new"'),
        ["fc (InnerProduct): name fc -> fc_new"],
    ),
    "what weights are loaded into of a fork's layer": (
        'weights: "a.caffemodel"' + changed('"Convolution"', '"DepthwiseConvolution"'),
        'weights: "b.caffemodel"'
        + changed('"Convolution"', '"DepthwiseConvolution"').replace('name: "conv"', 'name: "first"'),
        ["conv (DepthwiseConvolution): name conv -> first"],
    ),
    "what weights of the header are loaded into": (
        "# caffebench: weights: a.caffemodel\n" + FULL,
        "# caffebench: weights: a.caffemodel\n" + changed('name: "conv"', 'name: "first"'),
        ["conv (Convolution): name conv -> first"],
    ),
}

OTHER |= {
    "sizes of made-up data": (
        *two(
            "dummy_data_param { num: 2 num: 4 channels: 3 height: 1 width: 1 }",
            "dummy_data_param { num: 2 num: 9 channels: 3 height: 1 width: 1 }",
            DUMMY,
        ),
        None,
    ),
    "a scale that windows read": (
        *two(
            "window_data_param { scale: 0.5 mirror: true }",
            "window_data_param { scale: 0.25 crop_size: 9 }",
            'type: "WindowData" top: "a"',
        ),
        ["l (WindowData): window_data_param.scale 0.5 -> 0.25"],
    ),
    "a kernel that is given twice": (
        FULL,
        changed("kernel_size: 3", "kernel_size: 5 kernel_h: 3 kernel_w: 3"),
        [
            "conv (Convolution): convolution_param.kernel_size 3 3 -> none",
            "conv (Convolution): convolution_param.kernel_size (given twice) none -> 5 and 3 and 3",
        ],
    ),
    "a pad that is given twice": (
        changed("kernel_size: 3", "kernel_size: 3 pad: 1"),
        changed("kernel_size: 3", "kernel_size: 3 pad: 1 pad_h: 1 pad_w: 1"),
        None,
    ),
    "the phase of a layer": (
        changed(RELU, DROPPED),
        changed(RELU, DROPPED.replace("type", "phase: TEST type")),
        ["relu (Dropout) in TRAIN: phase none -> TEST"],
    ),
    "points that cut other parts": (
        *two("", "slice_param { slice_point: 2 }", 'type: "Slice" bottom: "x" top: "a" top: "b"', data=BLOBS),
        ["l (Slice): slice_param.slice_point 3 -> 2"],
    ),
    "the filler of a weight that two layers share": (
        shared("", XAVIER, "", ""),
        shared("", "", "", XAVIER),
        [
            f"{name} (InnerProduct): inner_product_param.weight_filler xavier variance_norm FAN_IN -> constant value 0"
            for name in "pq"
        ],
    ),
}


@pytest.mark.parametrize("case", OTHER)
def test_a_difference_is_told(tmp_path: Path, case: str) -> None:
    a, b, expected = OTHER[case]
    found = differences(tmp_path, a, b)
    assert found
    if expected is not None:
        assert sorted(found) == sorted(expected)


def test_net_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    assert differences(tmp_path, FULL, SOLVER + 'net: "net.prototxt"') == []
    assert differences(tmp_path, FULL, NET) == [], "a bare net is compared as a net"
    with pytest.raises(InputError, match=r"b\.prototxt:4: no net file none\.prototxt"):
        differences(tmp_path, FULL, SOLVER + 'net: "none.prototxt"')


def test_header_counts_where_both_files_have_one(tmp_path: Path) -> None:
    lsuv, ortho = ("# caffebench: init: lsuv\n" + FULL, "# caffebench: init: ortho\n" + FULL)
    assert differences(tmp_path, lsuv, ortho) == ["header: init lsuv -> ortho"]
    assert differences(tmp_path, lsuv, FULL) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"base_lr: 0.01\nlayer {\n", r"file\.prototxt:3:1 .*not a prototxt"),
        (b'net_param { layer { name: "x" convolution_param { num_output: "many" } } }', r":1:\d+ : .*many"),
        (b"just some words\n", r"file\.prototxt:1:\d+"),
        (b"# caffebench: x: [1\nbase_lr: 0.01\n", r"file\.prototxt:1: this is not YAML"),
        (b"layer {\n  name: }\n", r"file\.prototxt:2:9: no value for name"),
        (b"base_lr: 0.1\n device_id: 0,1\nmomentum: 0.9\n", r"file\.prototxt:2:15: '1' where the name of a field"),
        (b"base_lr 0.1\n", r"file\.prototxt:1:9: no ':' between base_lr and its value"),
        (b"net_param { " + 9999 * b"x {", "nested too deep"),
        (b"colour: 3\n", "no field of a Caffe solver or net"),
        (b"", "no field of a Caffe solver or net"),
        (b"\xff\xfe\x00", "byte 2 is zero"),
        (b'layer { type: "ReLU" } layers { type: RELU }', "both 'layer' and the old 'layers'"),
    ],
)
def test_what_is_no_prototxt_is_said_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.prototxt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_prototxt(path)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_prototxt(tmp_path / "none.prototxt")
    with pytest.raises(InputError, match="is a folder"):
        load_prototxt(tmp_path)


@pytest.mark.caffe
@pytest.mark.parametrize("old", [V0, V1.split("layers", 2)[0] + "layers" + V1.split("layers", 2)[2]])
def test_old_layers_are_what_real_caffe_makes_of_them(tmp_path: Path, old: str) -> None:
    import caffe

    if "input:" not in old:
        old = 'input: "data" input_dim: [2, 3, 9, 9] input: "label" input_dim: [2, 1, 1, 1]\n' + old
    path = tmp_path / "old.prototxt"
    path.write_text(old)
    net = caffe.Net(str(path), caffe.TEST)
    caffes = [kind for kind in (layer.type for layer in net.layers) if kind != "Split"]
    phase = load_prototxt(path).phase("TEST")
    assert phase is not None
    assert [layer.type for layer in phase.layers if layer.type != "Split"] == caffes
    shapes = {name: [blob.shape[0] for blob in blobs] for name, blobs in net.params.items()}
    for layer in phase.layers:
        if layer.name in shapes and layer.type == "Convolution":
            settings = layer.message.convolution_param
            assert settings.num_output == shapes[layer.name][0]
            assert len(shapes[layer.name]) == 1 + settings.bias_term


@pytest.mark.caffe
@pytest.mark.parametrize(("text", "tested"), [(TWIN_HEADS, 1.0), (SWAPPED_HEADS, 2.0)])
def test_real_caffe_gives_a_test_net_its_weights_by_name(tmp_path: Path, text: str, tested: float) -> None:
    """The weights that the first bottom of the test's ``join`` was computed with, where TRAIN has 1 in p and 2 in q."""
    import caffe

    path = tmp_path / "solver.prototxt"
    path.write_text(SOLVER.replace("snapshots", str(tmp_path)) + "net_param {" + text + "}")
    solver = caffe.get_solver(str(path))
    for name, value in (("p", 1), ("q", 2)):
        solver.net.params[name][0].data[...] = value
    test = solver.test_nets[0]
    test.share_with(solver.net)
    test.blobs["a"].data[...] = 1
    test.forward()
    assert test.blobs["join"].data[0, 0] / 4 == tested


@pytest.mark.caffe
def test_layer_types_are_those_of_real_caffe() -> None:
    import caffe

    registered = set(caffe.layer_type_list())
    without_opencv = {"ImageData", "WindowData"}
    assert registered <= set(LAYER_TYPES)
    assert set(LAYER_TYPES) - registered <= without_opencv


@pytest.mark.caffe
def test_parameters_are_as_many_as_in_real_caffe(tmp_path: Path) -> None:
    import caffe

    path = tmp_path / "net.prototxt"
    layers = {
        "conv": 'type: "Convolution" convolution_param { num_output: 4 kernel_size: 1 }',
        "bare": 'type: "Convolution" convolution_param { num_output: 4 kernel_size: 1 bias_term: false }',
        "deconv": 'type: "Deconvolution" convolution_param { num_output: 4 kernel_size: 1 }',
        "bn": 'type: "BatchNorm"',
        "scale": 'type: "Scale" scale_param { bias_term: true }',
        "gain": 'type: "Scale"',
        "bias": 'type: "Bias"',
        "prelu": 'type: "PReLU"',
        "relu": 'type: "ReLU"',
        "lrn": 'type: "LRN"',
        "fc": 'type: "InnerProduct" inner_product_param { num_output: 3 }',
    }
    text, bottom = 'layer { name: "in" type: "Input" top: "in" input_param { shape { dim: [2, 4, 5, 5] } } }', "in"
    for name, rest in layers.items():
        text += f'layer {{ name: "{name}" bottom: "{bottom}" top: "{name}" {rest} }}\n'
        bottom = name
    path.write_text(text)
    net, phase = caffe.Net(str(path), caffe.TEST), load_prototxt(path).phase("TEST")
    assert phase is not None
    for layer in phase.layers:
        said = {key for key in layer_settings(layer, "TEST") if key.endswith(".lr_mult")}
        assert len(said) == len(net.params.get(layer.name, ())), layer.name


BRANCHES = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 2 dim: 8 dim: 8 } } }
layer { name: "one" type: "Convolution" bottom: "data" top: "one" convolution_param { num_output: 6 kernel_size: 1 } }
layer { name: "two" type: "Convolution" bottom: "data" top: "two"
  convolution_param { num_output: 9 kernel_size: 3 pad: 1 } }
layer { name: "join" type: "Concat" bottom: "one" bottom: "two" top: "join" }
"""
STAGED = """
layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 4 dim: 3 } } exclude { stage: "val" } }
layer { name: "d" type: "DummyData" top: "x" include { phase: TEST stage: "val" }
  dummy_data_param { shape { dim: 5 dim: 3 } } }
layer { name: "fine" type: "ReLU" bottom: "x" top: "y" include { min_level: 2 } }
"""


def test_pairs_by_what_layers_do(tmp_path: Path) -> None:
    swapped = BRANCHES.replace('bottom: "one" bottom: "two"', 'bottom: "two" bottom: "one"')
    expected = ["join (Concat): bottoms in another order: one, two -> two, one"]
    assert differences(tmp_path, BRANCHES, swapped) == expected
    summed = [text.replace('"Concat"', '"Eltwise"') for text in (BRANCHES, swapped)]
    assert differences(tmp_path, *summed) == [], "a sum has no order"


def test_two_changes_far_apart_are_two_differences(tmp_path: Path) -> None:
    other = BRANCHES.replace("num_output: 6", "num_output: 7").replace("pad: 1", "pad: 2")
    assert differences(tmp_path, BRANCHES, other) == [
        "one (Convolution): convolution_param.num_output 6 -> 7",
        "two (Convolution): convolution_param.pad 1 1 -> 2 2",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "dim: 5",
            "dim: 6",
            [
                "d (DummyData) in TEST (stage val), TEST (stage val, level 2): dummy_data_param.shape 5 3 -> 6 3",
            ],
        ),
        ("dim: 4", "dim: 7", None),
        ('"ReLU"', '"TanH"', None),
    ],
)
def test_stages_and_levels_of_bare_nets(tmp_path: Path, old: str, new: str, expected: list[str] | None) -> None:
    found = differences(tmp_path, STAGED, STAGED.replace(old, new))
    assert found if expected is None else found == expected
    assert differences(tmp_path, STAGED, STAGED) == []


IMAGES = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [1, 3, 24, 24] } } }'
SCORES = 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }'
DEPLOY = (IMAGES + CONV + RELU + FC + SCORES).replace('weight_filler { type: "xavier" }', "")
DROPOUT = 'layer { name: "drop" type: "Dropout" bottom: "relu" top: "relu" }'
AUXILIARY = """
layer { name: "fc2" type: "InnerProduct" bottom: "relu" top: "fc2" inner_product_param { num_output: 10 } }
layer { name: "loss2" type: "SoftmaxWithLoss" bottom: "fc2" bottom: "label" top: "loss2" loss_weight: 0.3 }
"""


@pytest.mark.parametrize(
    ("trained", "deploy", "expected"),
    [
        (FULL, DEPLOY, []),
        (changed(FC, DROPOUT + FC + AUXILIARY), DEPLOY, []),
        (FULL, DEPLOY.replace(SCORES, ""), []),
        (FULL, DEPLOY.replace('name: "fc"', 'name: "score"'), ["fc (InnerProduct): name fc -> score"]),
        (FULL, DEPLOY.replace('name: "relu"', 'name: "act"'), []),
        (FULL, DEPLOY.replace("24, 24", "28, 24"), ["in (Image): size 24 24 -> 28 24"]),
        (
            FULL,
            DEPLOY.replace("kernel_size: 3", "kernel_size: 5"),
            ["conv (Convolution): convolution_param.kernel_size 3 3 -> 5 5"],
        ),
        (FULL, DEPLOY.replace('"ReLU"', '"TanH"'), ["relu (ReLU): type ReLU -> TanH"]),
        (
            FULL,
            DEPLOY.replace(RELU, "").replace('bottom: "relu"', 'bottom: "conv"'),
            ["relu (ReLU): only in A, after conv"],
        ),
    ],
)
def test_as_deploy(tmp_path: Path, trained: str, deploy: str, expected: list[str]) -> None:
    (tmp_path / "trained.prototxt").write_text(trained)
    (tmp_path / "deploy.prototxt").write_text(deploy)
    files = [load_prototxt(tmp_path / f"{name}.prototxt") for name in ("trained", "deploy")]
    assert [str(one).replace("data (Image)", "in (Image)") for one in compare_as_deploy(*files)] == expected
