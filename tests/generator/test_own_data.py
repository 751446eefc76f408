"""Data of a user's own: a profile that says little, on every bundled architecture; what can be swept of the data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format

from caffebench.common.errors import InputError
from caffebench.common.header import read_header
from caffebench.engine.messages import caffe_messages
from caffebench.generator.generate import generate, write
from caffebench.generator.variants.architectures import architecture_names
from caffebench.generator.variants.catalog import load_profile, load_sweep

LITTLE = "profile: mine\ntrain_size: 900\ntest_size: 100\nclasses: 3\n"


def profile(folder: Path, text: str):
    path = folder / "mine.yaml"
    path.write_text(text)
    return load_profile(str(path))


def sweep(folder: Path, text: str, name: str = "study"):
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return load_sweep(str(path))


def solver(text: str):
    return text_format.Parse(text, caffe_messages().SolverParameter())


def test_what_a_profile_leaves_out_is_worked_out(tmp_path):
    data = profile(tmp_path, LITTLE + "image_size: 32\nbatch_scale: 1/8\n")
    texts = generate([load_sweep("batch_size")], data)
    default = solver(texts["bs32"])
    assert default.max_iter * 32 == pytest.approx(50 * 900, rel=0.02)
    assert default.test_iter[0] * default.net_param.layer[1].data_param.batch_size == 100
    assert default.max_iter % default.test_interval == 0
    assert default.net_param.layer[0].data_param.source == "data/mine/train_lmdb"
    assert {name.split("_")[0] for name in texts} == {f"bs{size}" for size in (128, 64, 32, 16, 8, 4, 1)}


def test_a_recipe_may_be_an_expression_and_say_epochs(tmp_path):
    text = LITTLE + "image_size: 32\narchitectures: {caffenet: {recipe: {RECIPE}}}\n"
    recipe = "batch_size: profile.train_size / 30, base_lr: 0.08 / batch_size, epochs: 10 * 2"
    (made,) = generate(
        [load_sweep("bn_order")], profile(tmp_path, text.replace("RECIPE", recipe)), only="bn_after"
    ).values()
    found = solver(made)
    assert (found.net_param.layer[0].data_param.batch_size, found.max_iter) == (30, 600)
    assert found.base_lr == pytest.approx(0.08 / 30)
    (longer,) = generate(
        [sweep(tmp_path, "settings: {architecture: caffenet, epochs: 40}\nvariants: [{}]\n")],
        profile(tmp_path, text.replace("RECIPE", recipe)),
    ).values()
    assert solver(longer).max_iter == 1200


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("batch_size: 64, base_lr: 0.1", "a recipe says how long: max_iter or epochs, one of them"),
        ("batch_size: 64, base_lr: 0.1, max_iter: 1, epochs: 1", "max_iter or epochs, one of them"),
        ("batch_size: 64, base_lr: 0, epochs: 1", "the recipe of caffenet on mine: base_lr is 0, and must be more"),
        ("batch_size: batch, base_lr: 1, epochs: 1", "the recipe of caffenet on mine: 'batch' is not known here"),
        ("batch_size: 64, base_lr: 1, epochs: 1e99", "epochs is 1e+99, and must be"),
        ("batch_size: profile, base_lr: 1, epochs: 1", "the recipe of caffenet on mine: "),
    ],
)
def test_a_recipe_that_is_none(tmp_path, recipe, says):
    with pytest.raises(InputError) as caught:
        generate(
            [load_sweep("bn_order")],
            profile(tmp_path, LITTLE + f"image_size: 32\narchitectures: {{caffenet: {{recipe: {{{recipe}}}}}}}\n"),
        )
    assert says in str(caught.value)


def test_a_sweep_says_only_what_it_studies(tmp_path):
    data = profile(tmp_path, LITTLE + "image_size: 32\nbatch_scale: 1/4\n")
    texts = generate(
        [
            sweep(
                tmp_path, "settings: {architecture: caffenet}\ngrid: {batch: [128, 256], bn: [none, after]}\n", "my-own"
            )
        ],
        data,
    )
    assert list(texts) == ["batch_size32_bnnone", "batch_size32_bnafter", "batch_size64_bnnone", "batch_size64_bnafter"]
    header = read_header(texts["batch_size32_bnafter"])
    assert (header["sweep"], header["label"]) == ("my_own", "batch_size=32, bn=after")
    assert "source" not in header
    with pytest.raises(InputError, match=r"study: no architecture is said: .* caffenet, googlenet128"):
        generate([sweep(tmp_path, "grid: {bn: [none, after]}\n")], data)


def test_what_is_done_to_the_pictures_can_be_swept(tmp_path):
    data = profile(tmp_path, LITTLE + "image_size: 64\ncrop_size: 64\nmirror: true\nmean_value: [1, 2, 3]\n")
    text = (
        "settings: {architecture: caffenet}\nvariants:\n  - {}\n  - {mirror: false}\n  - {crop_size: 56}\n"
        "  - {mean_file: mean.binaryproto}\n  - {scale: profile.scale / 2}\n  - {resize: 32}\n"
    )
    made = {name: solver(text).net_param.layer for name, text in generate([sweep(tmp_path, text)], data).items()}
    assert list(made) == ["study", "mirrorfalse", "crop_size56", "mean_filemean.binaryproto", "scale0.008", "resize32"]
    seen = {name: layers[0].transform_param for name, layers in made.items()}
    assert [one.mirror for one in seen.values()] == [True, False, True, True, True, True]
    assert [one.crop_size for one in seen.values()] == [64, 64, 56, 64, 64, 64]
    assert [one.mean_file for one in seen.values() if one.mean_file] == ["mean.binaryproto"]
    assert [list(one.mean_value) for one in seen.values()].count([1, 2, 3]) == 5
    assert seen["scale0.008"].scale == pytest.approx(0.008)
    assert not any(layers[1].transform_param.mirror for layers in made.values())
    resize = made["resize32"][2]
    assert (resize.type, resize.pooling_param.kernel_size, resize.pooling_param.stride) == ("Pooling", 2, 2)
    assert (resize.pooling_param.pool, made["resize32"][3].bottom[0]) == (1, "resize")
    assert made["study"][2].bottom[0] == "data"
    with pytest.raises(InputError, match="a half, a third"):
        generate([sweep(tmp_path, "settings: {architecture: caffenet}\ngrid: {resize: [32, 48]}\n")], data)


def test_pictures_that_are_too_small_are_refused(tmp_path):
    with pytest.raises(InputError, match="pictures of 7 pixels a side are too small for caffenet: it wants 8 at least"):
        generate([load_sweep("bn_order")], profile(tmp_path, LITTLE + "image_size: 7\n"))


BUILD = """
import json, sys, caffe
from caffe.proto import caffe_pb2
from google.protobuf import text_format
for path in sys.argv[2:]:
    net = text_format.Parse(open(path).read(), caffe_pb2.SolverParameter()).net_param
    for layer in net.layer:
        if layer.type == "Data":
            layer.type = "DummyData"
            layer.dummy_data_param.shape.add().dim.extend([1, 3, int(sys.argv[1]), int(sys.argv[1])])
            layer.dummy_data_param.shape.add().dim.extend([1])
            layer.ClearField("data_param")
            layer.ClearField("transform_param")
        elif layer.type == "DummyData":
            layer.dummy_data_param.shape[0].dim[0] = 1
        for filler in (layer.convolution_param.weight_filler, layer.inner_product_param.weight_filler):
            filler.type = "constant"
    open("net.txt", "w").write(str(net))
    for phase in (caffe.TRAIN, caffe.TEST):
        made = caffe.Net("net.txt", phase)
    print(json.dumps([path, min(min(b.data.shape) for b in made.blobs.values() if b.data.shape)]))
"""


@pytest.mark.caffe
@pytest.mark.parametrize("side", [8, 11, 23, 24, 55, 56, 95, 112, 224])
def test_every_architecture_is_built_for_pictures_of_any_size(tmp_path, side):
    data = profile(tmp_path, LITTLE + f"image_size: {side}\n")
    names = architecture_names(data)
    assert names == ["caffenet", "googlenet128", "mobilenetv2", "proxylessnas_mobile"]
    sweeps = [
        sweep(tmp_path, f"name: {name}\nsettings: {{architecture: {name}}}\nvariants: [{{}}]\n") for name in names
    ]
    other = "settings: {architecture: caffenet}\ngrid: {activation: [rrelu, maxout], pool: [max, max_ave]}\n"
    texts = generate([*sweeps, sweep(tmp_path, other)], data)
    texts |= generate([load_sweep("bn_init")], data, only="googlenet_bn_lim0606")
    write(texts, tmp_path)
    command = [sys.executable, "-c", BUILD, str(side), *(f"{name}.prototxt" for name in texts)]
    environment = {**os.environ, "GLOG_minloglevel": "2"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, _ in found] == [f"{name}.prototxt" for name in texts], done.stderr[-2000:]
    assert all(least >= 1 for _, least in found)


def test_on_a_solver_of_ones_own_the_pictures_are_treated_as_the_template_does(tmp_path):
    from caffebench.generator.base import generate_on_base, load_base

    digits = load_profile("digits")
    base = tmp_path / "base.prototxt"
    base.write_text(next(iter(generate([load_sweep("batch_size")], digits, only="bs64").values())))
    text = (
        "settings: {architecture: caffenet}\nvariants:\n  - {mirror: true}\n  - {scale: 0.5}\n"
        "  - {mean_file: mean.binaryproto}\n  - {epochs: 10}\n"
    )
    study = sweep(tmp_path, text)
    by_template, made = generate([study], digits), generate_on_base([study], load_base(base))
    assert made.refused == {}
    assert list(made.texts) == list(by_template)
    for name, text in by_template.items():
        expected, found = solver(text), solver(made.texts[name])
        assert found.max_iter == pytest.approx(expected.max_iter, rel=0.02)
        for one, other in zip(found.net_param.layer[:2], expected.net_param.layer[:2], strict=True):
            assert one.transform_param == other.transform_param, name
    made = generate_on_base([sweep(tmp_path, "settings: {resize: 4}\nvariants: [{}]\n")], load_base(base))
    assert "Caffe's Data layer cannot resize" in made.refused["study"]


def test_pictures_from_files_are_resized_as_they_are_read(tmp_path):
    from caffebench.generator.base import generate_on_base, load_base

    base = tmp_path / "base.prototxt"
    base.write_text(
        'base_lr: 0.1 max_iter: 10 lr_policy: "fixed" net_param {\n'
        'layer { name: "d" type: "ImageData" top: "d" top: "l" transform_param { mean_value: 3 }\n'
        'image_data_param { source: "list.txt" batch_size: 4 } }\n'
        'layer { name: "f" type: "InnerProduct" bottom: "d" top: "f" inner_product_param { num_output: 2 } }\n'
        'layer { name: "o" type: "SoftmaxWithLoss" bottom: "f" bottom: "l" } }\n'
    )
    study = sweep(tmp_path, "grid: {resize: [32, 48], mirror: [true]}\n")
    made = generate_on_base([study], load_base(base))
    assert made.refused == {}
    for side, text in zip((32, 48), made.texts.values(), strict=True):
        train = next(one for one in solver(text).net_param.layer if one.type == "ImageData")
        assert (train.image_data_param.new_height, train.image_data_param.new_width) == (side, side)
        assert (train.transform_param.mirror, list(train.transform_param.mean_value)) == (True, [3])
