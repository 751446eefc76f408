"""What a sweep changes where a net reads more than one thing: pictures, targets of their pixels, noise, constants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from caffebench.engine.messages import caffe_messages

sys.path.insert(0, str(Path(__file__).parent))
from base_matrix import two_steps
from test_base import differences, on, written

HEAD = """base_lr: 0.001 lr_policy: "fixed" max_iter: 100 test_iter: 1 test_interval: 50 display: 50
net_param {
"""
READS = """layer {{ name: "{0}" type: "Data" top: "{0}" {2}
  data_param {{ source: "data/{0}" batch_size: {1} backend: LMDB }} {3} }}
"""
PARTS = (("TRAIN", 4), ("TEST", 2))
PICTURES = "".join(
    READS.format("data", size, f'top: "label" include {{ phase: {phase} }}', "transform_param { mean_value: 9 }")
    for phase, size in PARTS
)
CONV = """layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
"""
FC = """layer {{ name: "fc" type: "InnerProduct" bottom: "{0}" top: "fc"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n}\n'
TARGETS = "".join(READS.format("maps", size, f"include {{ phase: {phase} }}", "") for phase, size in PARTS)
PIXELS = f"""{HEAD}{PICTURES.replace('top: "label" ', "")}{TARGETS}{CONV}
layer {{ name: "score" type: "Convolution" bottom: "conv1" top: "score"
  convolution_param {{ num_output: 3 kernel_size: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "maps" top: "loss" }}
}}
"""
VECTORS = PIXELS.replace("maps", "vectors").replace('"Convolution" bottom: "conv1"', '"InnerProduct" bottom: "conv1"')
VECTORS = VECTORS.replace("convolution_param { num_output: 3 kernel_size: 1", "inner_product_param { num_output: 3")
BESIDE = """layer {{ name: "{0}" type: "DummyData" top: "{0}" dummy_data_param {{ {1}
  data_filler {{ type: "constant" value: 0.5 }} }} {2} }}
"""
TRAIN, TEST = "include { phase: TRAIN }", "include { phase: TEST }"
ONLY_TEST = f'layer {{ name: "mix" type: "Power" bottom: "conv1" top: "mix" {TEST} }}\n'
# Nets with something beside the data, and what a batch of 8 in the place of 4 changes of it.
MIXES: dict[str, tuple[str, list[str]]] = {
    "factors": (
        BESIDE.format("factors", "shape { dim: 4 }", "")
        + 'layer { name: "mix" type: "Scale" bottom: "conv1" bottom: "factors" top: "mix" }\n',
        [],
    ),
    "noise": (
        BESIDE.format("noise", "shape { dim: 4 dim: 4 dim: 12 dim: 12 }", TRAIN)
        + f'layer {{ name: "mix" type: "Eltwise" bottom: "conv1" bottom: "noise" top: "mix" {TRAIN} }}\n{ONLY_TEST}',
        ["noise (DummyData) in TRAIN: dummy_data_param.shape 4 4 12 12 -> 8 4 12 12"],
    ),
    "old_noise": (
        BESIDE.format("noise", "num: 4 channels: 4 height: 12 width: 12", TRAIN)
        + f'layer {{ name: "mix" type: "Eltwise" bottom: "conv1" bottom: "noise" top: "mix" {TRAIN} }}\n{ONLY_TEST}',
        ["noise (DummyData) in TRAIN: dummy_data_param.shape 4 4 12 12 -> 8 4 12 12"],
    ),
    "matrix": (
        BESIDE.format("matrix", "shape { dim: 1 dim: 1 dim: 3 dim: 3 }", "")
        + 'layer { name: "mix" type: "Power" bottom: "conv1" top: "mix" }\n',
        [],
    ),
}


def mixed(name: str) -> str:
    text = HEAD + PICTURES + CONV + MIXES[name][0] + FC.format("mix") + LOSS
    if name == "matrix":
        text = text.replace("SoftmaxWithLoss", "InfogainLoss").replace(
            'bottom: "label" top', 'bottom: "label" bottom: "matrix" top'
        )
    return text


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    for name, shape in (("data", (2, 12, 12)), ("maps", (1, 12, 12)), ("vectors", (1, 1, 1))):
        path = tmp_path / "data" / name
        path.mkdir(parents=True)
        with lmdb.open(str(path), map_size=1 << 22) as database, database.begin(write=True) as writing:
            for number in range(8):
                pixels = random.integers(0, 200 if name == "data" else 3, shape, np.uint8).tobytes()
                datum = caffe_messages().Datum(
                    channels=shape[0], height=shape[1], width=shape[2], data=pixels, label=number % 3
                )
                writing.put(f"{number}".encode(), datum.SerializeToString())
    return tmp_path


def told(folder: Path, base: Path, text: str) -> list[str]:
    return [one for one in differences(folder, base, text) if not one.startswith("solver:")]


def test_what_is_of_pictures_is_not_done_to_their_targets(data: Path) -> None:
    base = written(data, "base", PIXELS)
    study = [{"scale": 0.5}, {"mean_file": "none", "batch_size": 2}, {"mirror": True}, {"crop_size": 6}]
    made = on(base, *study, {"input_size": 6}, {"mirror": False, "crop_size": 0})
    assert {name: told(data, base, text) for name, text in made.texts.items()} == {
        "v0": ["data (Data): transform_param.scale 1 -> 0.5"],
        "v1": [f"{name} (Data) in TRAIN: data_param.batch_size 4 -> 2" for name in ("data", "maps")],
        "v5": [],
    }
    for variant, setting in (("v2", "mirror"), ("v3", "crop_size"), ("v4", "input_size")):
        assert made.refused[variant].startswith(f"layer maps (Data): {setting} would change the pictures and not what")


def test_pictures_whose_targets_are_no_maps_are_mirrored_and_cropped(data: Path) -> None:
    base = written(data, "base", VECTORS)
    made = on(base, {"mirror": True}, {"crop_size": 6})
    assert made.refused == {}
    assert [told(data, base, text) for text in made.texts.values()] == [
        ["data (Data) in TRAIN: transform_param.mirror false -> true"],
        ["data (Data): transform_param.crop_size 0 -> 6"],
    ]


@pytest.mark.parametrize("name", MIXES)
def test_a_batch_size_is_that_of_what_is_read_for_each_picture(name: str, data: Path) -> None:
    base = written(data, "base", mixed(name))
    (text,) = on(base, {"batch_size": 8}).texts.values()
    assert sorted(told(data, base, text)) == ["data (Data) in TRAIN: data_param.batch_size 4 -> 8", *MIXES[name][1]]


def test_a_net_that_says_its_batch_size_once_more_is_refused(data: Path) -> None:
    reshaped = f"""layer {{ name: "mix" type: "Reshape" bottom: "conv1" top: "mix" {TRAIN}
      reshape_param {{ shape {{ dim: 4 dim: -1 }} }} }}
    layer {{ name: "mix" type: "Flatten" bottom: "conv1" top: "mix" {TEST} }}
    """
    base = written(data, "base", HEAD + PICTURES + CONV + reshaped + FC.format("mix") + LOSS)
    made = on(base, {"batch_size": 8}, {"batch_size": 4}, {"dropout": 0.5})
    assert made.refused == {
        "v0": "layer mix (Reshape): its dim: 4 is the batch size: write 0 in its place, which takes it from the bottom"
    }


READ = """
import json, sys, caffe
caffe.set_mode_cpu()
for path in sys.argv[1:]:
    net = caffe.get_solver(path).net
    net.forward()
    print(json.dumps([float(net.blobs[name].data.max()) for name in ("data", "maps")]))
"""


@pytest.mark.caffe
def test_caffe_reads_the_targets_as_they_are_and_trains_at_every_batch_size(data: Path) -> None:
    bases = {"pixels": PIXELS, "vectors": VECTORS} | {name: mixed(name) for name in MIXES}
    paths = []
    for name, text in bases.items():
        made = on(written(data, name, text), {"batch_size": 8}, {"batch_size": 2})
        assert made.refused == {}
        paths += [written(data, f"{name}_{variant}", one) for variant, one in made.texts.items()]
    assert {path.name: wrong for path, wrong in two_steps(paths, data).items() if wrong} == {}
    plain, scaled = on(written(data, "base", PIXELS), {}, {"scale": 0.5}).texts.values()
    files = [str(written(data, name, text)) for name, text in (("plain", plain), ("scaled", scaled))]
    environment = {**os.environ, "GLOG_minloglevel": "2"}
    done = subprocess.run(
        [sys.executable, "-c", READ, *files], cwd=data, capture_output=True, text=True, env=environment, check=True
    )
    (pixels, labels), (half, same) = map(json.loads, done.stdout.splitlines())
    assert (half, same) == (pixels / 2, labels)
