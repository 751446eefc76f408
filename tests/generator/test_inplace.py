"""Layers in place: the same values and gradients to the bit, and no layer that would get others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest
from google.protobuf import text_format

from caffebench.common.errors import CaffebenchError
from caffebench.engine.messages import caffe_messages
from caffebench.generator.meaning import in_place
from caffebench.generator.nets.inplace import put_in_place
from caffebench.generator.render import render
from caffebench.generator.variants import catalog
from caffebench.generator.variants.resolve import resolve
from caffebench.generator.variants.settings import Settings
from caffebench.launcher.gpu.memory import training_bytes

SWEEPS = ("activations", "bn_order", "bn_activations", "bn_dropout", "pooling", "mobilenet_cifar10")


def rendered(profile: str, *sweeps: str) -> dict[str, str]:
    """The files as the templates write them, with a blob for each layer."""
    data = catalog.load_profile(profile)
    loaded = [catalog.load_sweep(name) for name in sweeps]
    return {one.name: render(one) for sweep in loaded if profile not in sweep.refuse for one in resolve(sweep, data)}


def changed(text: str) -> str:
    return put_in_place(text, text_format.Parse(text, caffe_messages().SolverParameter()))


def working_in_place(text: str) -> set[str]:
    net = text_format.Parse(changed(text), caffe_messages().SolverParameter()).net_param
    return {layer.name for layer in net.layer if in_place(layer)}


def net_of(layers: str) -> str:
    return f'net_param {{ layer {{ name: "data" type: "Input" top: "data" }} {layers} }}'


def layer(name: str, type_: str, bottom: str, more: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{type_}" bottom: "{bottom}" top: "{name}" {more} }} '


CONV = layer("c", "Convolution", "data")


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        (CONV + layer("r", "ReLU", "c") + layer("d", "Dropout", "r"), {"r", "d"}),
        (CONV + layer("r", "ReLU", "c", "relu_param { negative_slope: 0.1 }") + layer("d", "Dropout", "r"), {"r"}),
        (CONV + layer("e", "ELU", "c") + layer("d", "Dropout", "e"), {"e"}),
        (CONV + layer("t", "TanH", "c") + layer("b", "BatchNorm", "t") + layer("s", "Scale", "b"), {"t", "s"}),
        (CONV + layer("b", "BatchNorm", "c") + layer("s", "Scale", "b") + layer("r", "ReLU", "s"), {"b", "s", "r"}),
        # Dropout keeps what the ReLU needs, and BatchNorm over both does not.
        (CONV + layer("r", "ReLU", "c") + layer("d", "Dropout", "r") + layer("b", "BatchNorm", "d"), {"r", "d"}),
        (CONV + layer("x", "Clip", "c") + layer("d", "Dropout", "x"), {"d"}),
        (CONV + layer("p", "PReLU", "c") + layer("b", "BatchNorm", "p"), {"p", "b"}),
        # Others read what would be written over, in either phase; the data are not the net's own.
        (CONV + layer("r", "ReLU", "c") + layer("side", "Pooling", "c"), set()),
        (CONV + layer("r", "ReLU", "c") + layer("t", "Silence", "c", "include { phase: TEST }"), set()),
        (CONV + layer("b", "BatchNorm", "c") + layer("sum", "Eltwise", "b", 'bottom: "c"'), set()),
        (layer("b", "BatchNorm", "data"), set()),
        (CONV + layer("f", "Flatten", "c") + layer("d", "Dropout", "f"), set()),
        (CONV + layer("n", "LRN", "c") + layer("d", "Dropout", "n"), set()),
        (CONV + layer("r", "ReLU", "c", "include { phase: TRAIN }"), set()),
    ],
)
def test_what_may_work_in_place(layers: str, wanted: set[str]) -> None:
    assert working_in_place(net_of(layers)) == wanted


def test_nothing_else_in_the_file_changes() -> None:
    text = rendered("imagenet128", "batch_size")["bs256"]
    made = changed(text)
    assert changed(made) == made
    lines = list(zip(text.splitlines(), made.splitlines(), strict=True))
    assert {old.split(":")[0].strip() for old, new in lines if old != new} == {"top", "bottom"}


def test_a_net_that_is_written_in_another_way() -> None:
    text = net_of(CONV + layer("r", "ReLU", "c"))
    assert working_in_place(text.replace("net_param {", 'net_param {\n# bottom: "r"\n')) == {"r"}
    with pytest.raises(CaffebenchError, match="is written as none of ours is"):
        changed(text.replace('top: "r"', "top: 'r'"))


RUN = """
import hashlib, json, sys, caffe, numpy
from caffebench.engine import fast
caffe.set_mode_cpu()
for path in sys.argv[2:]:
    fast.load(on=sys.argv[1] == "fast")
    caffe.set_random_seed(1)
    net = caffe.get_solver(path).net
    net.forward()
    net.backward()
    found = hashlib.sha256()
    for blobs in net.params.values():
        for blob in blobs:
            # 0 and -0 are the same gradient.
            found.update((blob.data + 0).tobytes())
            found.update((blob.diff + 0).tobytes())
    losses = [float(net.blobs[name].data) for name in net.outputs]
    print(json.dumps([path, losses, found.hexdigest()]))
"""


@pytest.mark.slow
@pytest.mark.caffe
@pytest.mark.parametrize("layers", ["caffe", "fast"])
def test_losses_and_gradients_stay_to_the_bit(digits_root: Path, tmp_path: Path, layers: str) -> None:
    texts = rendered("digits", *SWEEPS)
    texts |= {f"googlenet_{name}": text for name, text in googlenet().items()}
    assert {"act_elu", "act_prelu", "act_rrelu", "bn_after_scale", "googlenet_act_relu"} <= set(texts)
    found = {}
    for kind, made in (("own", texts), ("in_place", {name: changed(text) for name, text in texts.items()})):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "data").symlink_to(digits_root)
        (folder / "snapshots").mkdir()
        for name, text in made.items():
            (folder / f"{name}.prototxt").write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", RUN, layers, *(f"{name}.prototxt" for name in made)],
            cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "2"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found[kind] = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found["own"]) == len(texts)
    assert found["own"] == found["in_place"]


def googlenet() -> dict[str, str]:
    """GoogLeNet, with its LRN, branches and two further classifiers."""
    sweep, data = catalog.load_sweep("activations"), catalog.load_profile("digits")
    variants = resolve(sweep, data, Settings(architecture="googlenet128"))
    return {one.name: render(one) for one in variants if one.name in ("act_relu", "act_tanh")}


@pytest.mark.caffe
def test_caffenet_needs_a_quarter_less_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = caffe_messages().Datum(channels=3, height=128, width=128, data=bytes(3 * 128 * 128))
    for part in ("train", "test"):
        folder = tmp_path / "data" / "imagenet128" / f"{part}_lmdb"
        folder.mkdir(parents=True)
        with lmdb.open(str(folder), map_size=1 << 24) as environment, environment.begin(write=True) as writing:
            writing.put(b"0", record.SerializeToString())
    own = rendered("imagenet128", "batch_size")["bs256"]
    before, after = training_bytes(own), training_bytes(changed(own))
    assert before is not None
    assert after is not None
    assert after < 0.75 * before
