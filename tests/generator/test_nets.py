"""``--summary``, ``--deploy``, ``--split``: published counts, the test net's scores, files that Caffe's tools take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from caffebench.common.errors import InputError
from caffebench.engine.messages import caffe_messages
from caffebench.generator.cli import main
from caffebench.generator.compare import compare, compare_as_deploy
from caffebench.generator.generate import generate
from caffebench.generator.meaning import Prototxt, load_prototxt
from caffebench.generator.nets.deploy import deployed_layers
from caffebench.generator.nets.shapes import infer
from caffebench.generator.nets.summary import count, summary
from caffebench.generator.variants.catalog import load_profile, load_sweep

sys.path.insert(0, str(Path(__file__).parent))
from architectures import ARCHITECTURES
from base_matrix import make_base, make_pictures

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "GLOG_minloglevel": "2"}


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


# Parameters and multiply-adds for one picture as they are published: CaffeNet's weights are 60,965,224 floats; the
# others' papers and their authors' repositories say 6.99 M and 1.58 G, 25.56 M and 3.86 G, 4.23 M and 569 M.
PUBLISHED = {
    "caffenet": (60_965_224, 724.4e6),
    "googlenet": (6_998_552, 1.583e9),
    "resnet50": (25_557_032, 3.858e9),
    "mobilenet": (4_231_976, 568.7e6),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_agree_with_the_published_ones(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.prototxt"
    path.write_text(ARCHITECTURES[name]())
    counts = count(infer(deployed_layers(load_prototxt(path))))
    parameters, multiply_adds = PUBLISHED[name]
    assert counts.parameters == parameters
    assert counts.multiply_adds == pytest.approx(multiply_adds, rel=1e-3)


def test_summary_is_a_table_of_layers_and_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "caffenet.prototxt").write_text(ARCHITECTURES["caffenet"]())
    assert run("--summary", tmp_path / "caffenet.prototxt") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "type", "output", "parameters", "multiply-adds"]
    assert lines[2].split() == ["conv1", "Convolution", "256", "x", "96", "x", "55", "x", "55", "34,944", "105,415,200"]
    assert "for inference: 60,965,224 parameters, 724,406,816 multiply-adds a picture" in lines
    assert lines[-1] == "memory of a training step: 2,888 MB at a batch of 256"


def test_what_depends_on_data_that_are_not_there_is_said_to_be_unknown(tmp_path: Path) -> None:
    path = tmp_path / "lenet.prototxt"
    path.write_text(ARCHITECTURES["lenet"]())
    text = summary(load_prototxt(path))
    assert "for inference: ? parameters" in text
    assert text.splitlines()[-1].startswith("? is not known without the size of the data")


def test_shared_weights_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# caffebench: shape: [2, 28, 28]\n" + ARCHITECTURES["siamese"]()
    (tmp_path / "siamese.prototxt").write_text(text)
    one_branch = 20 * 25 + 20 + 50 * 20 * 25 + 50 + 800 * 500 + 500 + 500 * 10 + 10 + 10 * 2 + 2
    assert f"TRAIN: {one_branch:,} parameters" in summary(load_prototxt(tmp_path / "siamese.prototxt"))


# The net's own count of parameters and the shape of every blob, from Caffe: ours must be the same.
BUILT = """
import json, sys, caffe
caffe.set_mode_cpu()
for path in sys.argv[1:]:
    net = caffe.get_solver(path).net
    types = dict(zip(net._layer_names, (layer.type for layer in net.layers)))
    blobs = {name: list(blob.data.shape) for name, blob in net.blobs.items() if "_split_" not in name}
    learned = sum(b.count for name, blobs in net.params.items() if types[name] != "BatchNorm" for b in blobs)
    print(json.dumps({"blobs": blobs, "learned": learned}))
"""


def built_by_caffe(folder: Path, *names: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-c", BUILT, *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def built_by_us(file: Prototxt, records: Mapping[str, Sequence[int]] | None = None) -> dict[str, Any]:
    net = file.phase("TRAIN")
    assert net is not None
    shapes = infer([layer.message for layer in net.layers], records)
    blobs = {
        top: None if shape is None else list(shape)
        for one in shapes
        for top, shape in zip(one.layer.top, one.tops, strict=True)
    }
    return {"blobs": blobs, "learned": count(shapes).parameters}


@pytest.mark.caffe
def test_shapes_and_parameters_are_those_that_caffe_builds(digits_root: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(digits_root)
    (tmp_path / "snapshots").mkdir()
    digits = load_profile("digits")
    texts = generate([load_sweep("bn_init")], digits)
    texts |= generate([load_sweep("activations")], digits)
    texts |= generate([load_sweep("determinism")], digits, only="seeded")
    for name, text in texts.items():
        (tmp_path / f"{name}.prototxt").write_text(text)
    names = [f"{name}.prototxt" for name in texts]
    for name, built in zip(names, built_by_caffe(tmp_path, *names), strict=True):
        file = load_prototxt(tmp_path / name)
        assert built_by_us(file, {"data": file.header["shape"]}) == built, name


FILLED = 'weight_filler { type: "uniform" min: -0.1 max: 0.1 }'
GIVEN = 'layer {{ name: "in" type: "DummyData" {tops} dummy_data_param {{ {shapes} }} }}'


def given(**shapes: str) -> str:
    """A layer that gives out blobs of these sizes."""
    tops = " ".join(f'top: "{name}"' for name in shapes)
    dims = " ".join(f"shape {{ {' '.join(f'dim: {one}' for one in sizes.split())} }}" for sizes in shapes.values())
    return GIVEN.format(tops=tops, shapes=dims) + "\n"


RECURRENT = f"recurrent_param {{ num_output: 6 {FILLED} }}"
FIVE = f"inner_product_param {{ num_output: 5 {FILLED} }}"
STRANGERS = {
    "segments": given(data="1 3 40 50", label="1 1 40 50")
    + f"""
    layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
      convolution_param {{ num_output: 8 kernel_size: 3 pad: 20 {FILLED} }} }}
    layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param {{ kernel_size: 2 stride: 2 }} }}
    layer {{ name: "score" type: "Convolution" bottom: "pool" top: "score"
      convolution_param {{ num_output: 5 kernel_size: 1 {FILLED} }} }}
    layer {{ name: "up" type: "Deconvolution" bottom: "score" top: "up"
      convolution_param {{ num_output: 5 group: 5 bias_term: false kernel_size: 4 stride: 2 {FILLED} }} }}
    layer {{ name: "crop" type: "Crop" bottom: "up" bottom: "data" top: "crop" crop_param {{ axis: 2 offset: 19 }} }}
    layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "crop" bottom: "label" top: "loss" }}
    layer {{ name: "best" type: "ArgMax" bottom: "crop" top: "best" argmax_param {{ axis: 1 }} }}
    layer {{ name: "two" type: "ArgMax" bottom: "pool" top: "two" argmax_param {{ top_k: 2 out_max_val: true }} }}
    """,
    "words": given(words="7 4", cont="7 4", target="7 4", image="4 9")
    + f"""
    layer {{ name: "embed" type: "Embed" bottom: "words" top: "embed"
      embed_param {{ input_dim: 30 num_output: 16 {FILLED} }} }}
    layer {{ name: "lstm" type: "LSTM" bottom: "embed" bottom: "cont" bottom: "image" top: "lstm" {RECURRENT} }}
    layer {{ name: "lstm2" type: "LSTM" bottom: "lstm" bottom: "cont" top: "lstm2" {RECURRENT} }}
    layer {{ name: "rnn" type: "RNN" bottom: "lstm2" bottom: "cont" bottom: "image" top: "rnn" {RECURRENT} }}
    layer {{ name: "rnn2" type: "RNN" bottom: "rnn" bottom: "cont" top: "rnn2" {RECURRENT} }}
    layer {{ name: "predict" type: "InnerProduct" bottom: "rnn2" top: "predict"
      inner_product_param {{ num_output: 30 axis: 2 {FILLED} }} }}
    layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "predict" bottom: "target" top: "loss"
      softmax_param {{ axis: 2 }} }}
    layer {{ name: "tile" type: "Tile" bottom: "rnn" top: "tile" tile_param {{ axis: 1 tiles: 3 }} }}
    layer {{ name: "free" type: "Parameter" top: "free" parameter_param {{ shape {{ dim: 3 dim: 5 }} }} }}
    """,
    "volumes": given(x="2 3 20", y="2 3 6 8 8", z="2 3 4 8 8", one="2 3 8 8", other="2 3 8 8")
    + f"""
    layer {{ name: "line" type: "Convolution" bottom: "x" top: "line"
      convolution_param {{ num_output: 4 kernel_size: 3 {FILLED} }} }}
    layer {{ name: "cube" type: "Convolution" bottom: "y" top: "cube"
      convolution_param {{ num_output: 4 kernel_size: [3, 2, 1] stride: [2, 1, 3] dilation: [1, 2, 1] {FILLED} }} }}
    layer {{ name: "grown" type: "Deconvolution" bottom: "cube" top: "grown"
      convolution_param {{ num_output: 2 kernel_size: 2 stride: 2 {FILLED} }} }}
    layer {{ name: "planes" type: "Convolution" bottom: "z" top: "planes"
      convolution_param {{ num_output: 4 kernel_size: 3 axis: 2 {FILLED} }} }}
    layer {{ name: "both" type: "Convolution" bottom: "one" bottom: "other" top: "a" top: "b"
      convolution_param {{ num_output: 4 kernel_size: 3 axis: -3 {FILLED} }} }}
    layer {{ name: "rows" type: "Im2col" bottom: "one" top: "rows" convolution_param {{ kernel_size: 3 stride: 2 }} }}
    layer {{ name: "flat" type: "InnerProduct" bottom: "rows" top: "flat" {FIVE} }}
    """,
    "odd edges": given(x="2 3 9 8", y="2 3 9 7", z="1 2 31 20", factors="2 3", which="5")
    + f"""
    layer {{ name: "pool" type: "Pooling" bottom: "x" top: "pool"
      pooling_param {{ kernel_h: 3 kernel_w: 1 stride: 2 pad_h: 1 pad_w: 0 }} }}
    layer {{ name: "down" type: "Pooling" bottom: "x" top: "down"
      pooling_param {{ kernel_size: 2 stride: 2 round_mode: FLOOR }} }}
    layer {{ name: "spp" type: "SPP" bottom: "y" top: "spp" spp_param {{ pyramid_height: 3 }} }}
    layer {{ name: "fc" type: "InnerProduct" bottom: "spp" top: "fc" {FIVE} }}
    layer {{ name: "spp2" type: "SPP" bottom: "z" top: "spp2" spp_param {{ pyramid_height: 4 }} }}
    layer {{ name: "spp1" type: "SPP" bottom: "z" top: "spp1" spp_param {{ pyramid_height: 1 }} }}
    layer {{ name: "scale" type: "Scale" bottom: "x" bottom: "factors" top: "scale"
      scale_param {{ axis: 0 bias_term: true }} }}
    layer {{ name: "again" type: "BatchReindex" bottom: "x" bottom: "which" top: "again" }}
    layer {{ name: "d" type: "DummyData" top: "m" top: "n"
      dummy_data_param {{ num: 4 channels: 3 channels: 5 height: 2 width: 2 }} }}
    layer {{ name: "e" type: "DummyData" top: "o" top: "p"
      dummy_data_param {{ num: 4 num: 6 channels: 3 height: 2 width: 2 }} }}
    layer {{ name: "fc_n" type: "InnerProduct" bottom: "n" top: "fc_n" {FIVE} }}
    layer {{ name: "fc_p" type: "InnerProduct" bottom: "p" top: "fc_p" {FIVE} }}
    """,
}
MOVED = {"line": 36 * 18, "cube": 72 * 2 * 6 * 3, "grown": 64 * 2 * 6 * 3, "planes": 144 * 3 * 36, "both": 2 * 108 * 36}


@pytest.mark.caffe
@pytest.mark.parametrize("name", STRANGERS)
def test_shapes_and_parameters_of_segments_and_words_are_those_that_caffe_builds(name: str, tmp_path: Path) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text(f'base_lr: 0.1 lr_policy: "fixed" max_iter: 9\nnet_param {{ {STRANGERS[name]} }}\n')
    assert [built_by_us(load_prototxt(path))] == built_by_caffe(tmp_path, path.name)


def counted(tmp_path: Path, text: str) -> dict[str, int | None]:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net = load_prototxt(path).phase("TRAIN")
    assert net is not None
    return {one.name: one.multiply_adds for one in count(infer([layer.message for layer in net.layers])).layers}


def test_multiply_adds_of_all_places_that_a_weight_is_used_at(tmp_path: Path) -> None:
    assert {name: MOVED[name] for name in MOVED} == {
        name: found for name, found in counted(tmp_path, STRANGERS["volumes"]).items() if name in MOVED
    }
    steps = (
        given(x="2 7 5")
        + f"""layer {{ name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
      inner_product_param {{ num_output: 11 axis: 2 {FILLED} }} }}"""
    )
    assert counted(tmp_path, steps)["fc"] == 385


@pytest.mark.parametrize("kind", ["Convolution", "Pooling"])
def test_a_kernel_that_is_given_twice_fits_nothing(tmp_path: Path, kind: str) -> None:
    text = given(x="2 3 8 8") + f'layer {{ name: "k" type: "{kind}" bottom: "x" top: "k" '
    for field in ("convolution_param", "pooling_param"):
        text += f"{field} {{ kernel_size: 5 kernel_h: 3 kernel_w: 3 }} "
    with pytest.raises(InputError, match="Caffe refuses kernel_size beside kernel_h or kernel_w"):
        counted(tmp_path, text.replace("convolution_param {", "convolution_param { num_output: 2") + "}")


def test_where_what_is_not_known_begins_is_said(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        given(x="2 3 8 8", kept="2 1 1 1")
        + """layer { name: "some" type: "Filter" bottom: "x" bottom: "kept" top: "some" }
        layer { name: "fc" type: "InnerProduct" bottom: "some" top: "fc" inner_product_param { num_output: 2 } }"""
    )
    assert summary(load_prototxt(path)).splitlines()[-1].startswith("? is not known: what layer some (Filter) makes")


SCORES = """
import json, sys, caffe, numpy
caffe.set_mode_cpu()
solver_file, deploy_file, weights = sys.argv[1:]
solver = caffe.get_solver(solver_file)
solver.step(3)
solver.net.save(weights)
test = solver.test_nets[0]
test.share_with(solver.net)
test.forward()
deployed = caffe.Net(deploy_file, weights, caffe.TEST)
for name in deployed.inputs:
    deployed.blobs[name].reshape(*test.blobs[name].data.shape)
    deployed.blobs[name].data[...] = test.blobs[name].data
deployed.forward()
found = {}
for name in deployed.outputs:
    found[name] = deployed.blobs[name].data.reshape(len(deployed.blobs[name].data), -1)
scores = {name: blob.data for name, blob in test.blobs.items()}
worst, seen = 0.0, 0
for name, mine in found.items():
    theirs = scores.get(name)
    if theirs is None:  # a probability: the softmax of what the test net's loss reads
        bottom = deployed.bottom_names[name][0]
        theirs = scores[bottom].reshape(len(scores[bottom]), -1)
        theirs = numpy.exp(theirs - theirs.max(axis=1, keepdims=True))
        theirs /= theirs.sum(axis=1, keepdims=True)
    worst = max(worst, float(numpy.abs(mine - theirs.reshape(mine.shape)).max()))
    seen += mine.size
print(json.dumps({"worst": worst, "seen": seen, "outputs": list(found)}))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    make_pictures(folder)
    (folder / "snapshots").mkdir()
    return folder


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("lenet", ["prob"]),
        ("autoencoder", ["decode1neuron"]),
        ("two_heads", ["prob"]),  # the coarse loss weighs half: an auxiliary one
        ("resnet20", ["prob"]),
        ("siamese", ["feat", "feat_p"]),
        ("squeezenet", ["prob"]),
        ("googlenet", ["prob"]),
    ],
)
def test_a_deployed_net_gives_the_scores_of_the_test_net(
    name: str, outputs: list[str], pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pictures)
    solver = make_base(name, pictures)
    assert run("--deploy", solver, "--out", pictures / "deployed") == 0
    deployed = capsys.readouterr().out.strip()
    command = [sys.executable, "-c", SCORES, str(solver), deployed, f"{name}.caffemodel"]
    done = subprocess.run(command, cwd=pictures, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert sorted(found["outputs"]) == outputs
    assert found["seen"] >= 4
    assert found["worst"] < 1e-5
    layers = load_prototxt(Path(deployed)).layers
    assert not {"Data", "Dropout", "Accuracy", "SoftmaxWithLoss"} & {layer.type for layer in layers}
    assert "loss1/classifier" not in {layer.name for layer in layers}


DIGITS = (
    "".join(
        f"""layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: {phase} }}
      data_param {{ source: "data/digits/{part}_lmdb" backend: LMDB batch_size: {batch} }} }}
    layer {{ name: "target" type: "Data" top: "target" include {{ phase: {phase} }}
      data_param {{ source: "data/digits/{part}_lmdb" backend: LMDB batch_size: {batch} }} }}
    """
        for phase, part, batch in (("TRAIN", "train", 16), ("TEST", "test", 40))
    )
    + f"""layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
      convolution_param {{ num_output: 4 kernel_size: 3 {FILLED} }} }}
    layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
    layer {{ name: "wanted" type: "Flatten" bottom: "target" top: "wanted" }}
    """
)


def scored(name: str, outputs: int, bottom: str = "conv") -> str:
    return f"""layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}"
      inner_product_param {{ num_output: {outputs} {FILLED} }} }}
    """


def lost(name: str, kind: str, *bottoms: str, weight: float = 1) -> str:
    read = " ".join(f'bottom: "{one}"' for one in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {read} top: "{name}" loss_weight: {weight} }}\n'


CLASSES = scored("fc", 10) + lost("loss", "SoftmaxWithLoss", "fc", "label")
MADE = 'layer {{ name: "made" type: "DummyData" top: "made" include {{ phase: {} }} dummy_data_param {{ {} }} }}\n'
ROWS = 'layer {{ type: "Reshape" bottom: "conv" top: "rows" include {{ phase: {} }} reshape_param {{ {} }} }}\n'
# Nets of the layers above and these, with the outputs and the batch of the net for inference.
TASKS = {
    "classes and numbers": (
        CLASSES + scored("boxes", 64) + lost("l2", "EuclideanLoss", "boxes", "wanted", weight=0.01),
        ["boxes", "prob"],
        1,
    ),
    "numbers that weigh more": (
        CLASSES + scored("boxes", 64) + lost("l2", "EuclideanLoss", "boxes", "wanted", weight=10),
        ["boxes", "prob"],
        1,
    ),
    "two heads on one label": (
        CLASSES + scored("side", 10) + lost("aux", "SoftmaxWithLoss", "side", "label", weight=0.3),
        ["prob"],
        1,
    ),
    "a loss that is in TRAIN only": (
        CLASSES.replace('type: "SoftmaxWithLoss"', 'type: "SoftmaxWithLoss" include { phase: TRAIN }')
        + 'layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" include { phase: TEST } }\n'
        + scored("boxes", 64)
        + lost("l2", "EuclideanLoss", "boxes", "wanted"),
        ["boxes", "fc"],
        1,
    ),
    "targets in parts": (
        'layer { name: "cut" type: "Slice" bottom: "wanted" top: "a" top: "b" slice_param { slice_point: 24 } }\n'
        + scored("left", 24)
        + lost("la", "EuclideanLoss", "left", "a")
        + scored("right", 40)
        + lost("lb", "EuclideanLoss", "b", "right", weight=0.5),
        ["left", "right"],
        1,
    ),
    "a loss of plain layers": (
        scored("boxes", 64)
        + """layer { name: "off" type: "Eltwise" bottom: "boxes" bottom: "wanted" top: "off"
          eltwise_param { coeff: 1 coeff: -1 } }
        layer { name: "sum" type: "Reduction" bottom: "off" top: "sum" loss_weight: 0.001
          reduction_param { operation: SUMSQ } }
        """,
        ["boxes"],
        1,
    ),
    "a softmax of its own": (
        CLASSES
        + 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" include { phase: TEST } }\n'
        + 'layer { name: "acc" type: "Accuracy" bottom: "prob" bottom: "label" top: "acc" include { phase: TEST } }\n',
        ["prob"],
        1,
    ),
    "a batch in a Reshape": (
        ROWS.format("TRAIN", "shape { dim: 16 dim: 144 }")
        + ROWS.format("TEST", "shape { dim: 40 dim: 144 }")
        + CLASSES.replace('"conv"', '"rows"'),
        ["prob"],
        40,
    ),
    "made-up data of the test's batch": (
        MADE.format("TRAIN", "shape { dim: [16, 4] } data_filler { value: 0.5 }")
        + MADE.format("TEST", "shape { dim: [40, 4] } data_filler { value: 0.5 }")
        + 'layer { name: "gain" type: "Scale" bottom: "conv" bottom: "made" top: "gain" scale_param { axis: 0 } }\n'
        + CLASSES.replace('"conv"', '"gain"'),
        ["prob"],
        40,
    ),
}


@pytest.mark.caffe
@pytest.mark.parametrize("case", TASKS)
def test_all_tasks_are_deployed_and_nothing_asks_for_their_targets(
    case: str, digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(digits_root)
    layers, outputs, batch = TASKS[case]
    Path("net.prototxt").write_text(
        'test_iter: 1 test_interval: 9 base_lr: 0.0001 lr_policy: "fixed" max_iter: 9 snapshot_prefix: "net"\n'
        f"net_param {{ {DIGITS} {layers} }}\n"
    )
    assert run("--deploy", "net.prototxt", "--out", ".") == 0
    inputs = [one for one in load_prototxt(Path("net.deploy.prototxt")).layers if one.type == "Input"]
    assert [(one.name, list(one.message.input_param.shape[0].dim)) for one in inputs] == [("data", [batch, 1, 8, 8])]
    command = [sys.executable, "-c", SCORES, "net.prototxt", "net.deploy.prototxt", "net.caffemodel"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert (sorted(found["outputs"]), found["worst"] < 1e-5) == (outputs, True)
    files = [load_prototxt(Path(name)) for name in ("net.prototxt", "net.deploy.prototxt")]
    assert compare_as_deploy(*files) == []
    assert "for inference: " in summary(load_prototxt(Path("net.prototxt")))


def test_deploy_says_how_pictures_are_prepared_and_refuses_what_it_cannot_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("caffenet", "lenet"):
        (tmp_path / f"{name}.prototxt").write_text(ARCHITECTURES[name]())
    files = [tmp_path / "caffenet.prototxt", tmp_path / "lenet.prototxt"]
    assert run("--deploy", *files, "--out", tmp_path / "out") == 1
    text = (tmp_path / "out" / "caffenet.deploy.prototxt").read_text()
    assert "# data: the middle 227 x 227 pixels, then minus 104, 117, 123.\n" in text
    told = capsys.readouterr().err
    assert f"{files[1]}: layer data (Data): the size of its pictures is not known: make its data" in told
    assert run("--deploy", files[1], tmp_path / "away.prototxt", "--out", tmp_path / "out") == 2
    assert run("--deploy") == 2


@pytest.mark.caffe
def test_split_files_are_the_same_and_caffe_trains_and_tests_them(
    digits_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(digits_root)
    (tmp_path / "snapshots").mkdir()
    common = ["batch_size", "--profile", "digits", "--only", "bs64", "--set", "max_iter=60"]
    assert run(*common, "--out", "whole") == 0
    assert run(*common, "--split", "--out", "apart") == 0
    assert run(*common, "--split", "--out", "apart", "--check") == 0
    assert sorted(path.name for path in Path("apart").iterdir()) == ["bs64.net.prototxt", "bs64.prototxt"]
    assert compare(load_prototxt(Path("whole/bs64.prototxt")), load_prototxt(Path("apart/bs64.prototxt"))) == []
    solver = text_format.Parse(Path("apart/bs64.prototxt").read_text(), caffe_messages().SolverParameter())
    assert (solver.net, solver.HasField("net_param")) == ("apart/bs64.net.prototxt", False)
    caffe = str(BIN / "caffe")
    subprocess.run([caffe, "train", "-solver", "apart/bs64.prototxt"], check=True, capture_output=True, env=ENVIRONMENT)
    test = [caffe, "test", "-model", "apart/bs64.net.prototxt", "-weights", "snapshots/bs64_iter_60.caffemodel"]
    done = subprocess.run(
        [*test, "-iterations", "3"],
        check=True,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "GLOG_minloglevel": "0"},
    )
    assert "accuracy = " in done.stderr
