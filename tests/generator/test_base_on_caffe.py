"""A sample of ``make matrix`` on real Caffe, and gradients that working in place must not change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from caffebench.engine.messages import caffe_messages
from caffebench.generator.base import generate_on_base, load_base
from caffebench.generator.variants.schema import Sweep

sys.path.insert(0, str(Path(__file__).parent))
from base_matrix import make_base, make_pictures, two_steps

pytestmark = [pytest.mark.caffe, pytest.mark.slow]

ALL = [
    {"activation": "rrelu", "bn": "after", "bn_scale": True, "dropout": 0.3},
    {"activation": "tanh", "bn": "before", "width": 0.5, "batch_size": 3},
    {"activation": "elu", "dropout": 0.6, "filler": "msra"},
    {"activation": "prelu", "width": 1.3, "solver_type": "Adam", "momentum2": 0.999},
    {"activation": "sigmoid", "bn": "after", "batch_size": 5},
    {"activation": "none", "bn": "none", "dropout": 0, "lr_policy": "poly", "power": 2},
]
STUDIES = {
    "two_heads": [*ALL, {"activation": "maxout", "pool": "max_ave"}, {"pool": "ave", "crop_size": 28}],
    "siamese": [*ALL[:4], {"activation": "maxout", "pool": "max_ave", "bn": "before"}],
    "autoencoder": [*ALL[:2], *ALL[3:5]],
    "resnet20": [*ALL[:5], {"bn_scale": False, "crop_size": 28}],
    "squeezenet": [{"activation": "maxout", "bn": "before", "width": 0.5}, {"pool": "max_ave", "width": 0.3}],
    "mobilenet": [{"width": 0.3, "activation": "elu", "bn": "after"}],
}


def study(variants: list[dict[str, object]]) -> Sweep:
    named = [{"name": f"v{number}", **one} for number, one in enumerate(variants)]
    head = {"sweep": "m", "title": "t", "studies": "s", "source": "us", "name": "n", "label": "l"}
    return Sweep.model_validate({**head, "variants": named})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    make_pictures(folder)
    (folder / "snapshots").mkdir()
    return folder


@pytest.mark.parametrize("name", STUDIES)
def test_two_steps_with_finite_loss_and_a_gradient_in_every_layer(
    name: str, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    made = generate_on_base([study(STUDIES[name])], load_base(make_base(name, pictures)))
    assert made.refused == {}
    paths = []
    for variant, text in made.texts.items():
        paths.append(pictures / f"{name}.{variant}.prototxt")
        paths[-1].write_text(text)
    assert {path.name: wrong for path, wrong in two_steps(paths, pictures).items() if wrong} == {}


GRADIENTS = """
import json, sys, caffe, numpy
caffe.set_mode_cpu()
for path in sys.argv[1:]:
    caffe.set_random_seed(5)
    net = caffe.get_solver(path).net
    net.forward()
    net.backward()
    types = dict(zip(net._layer_names, (layer.type for layer in net.layers)))
    sums = {name: [blob.diff.ravel()[:500].tolist() for blob in blobs]
            for name, blobs in net.params.items() if types[name] != "BatchNorm"}
    print(json.dumps(sums))
"""


def never_in_place(text: str) -> str:
    """The same net, every layer writing a blob of its own: bottoms are what their names meant at that line."""
    solver = text_format.Parse(text, caffe_messages().SolverParameter())
    for phase in (0, 1):
        now: dict[str, str] = {}
        for layer in solver.net_param.layer:
            if layer.include and layer.include[0].phase != phase:
                continue
            if phase == 1 and not layer.include:
                continue  # done with the first phase
            bottoms = [now.get(bottom, bottom) for bottom in layer.bottom]
            for number, top in enumerate(layer.top):
                if top in layer.bottom:
                    now[top] = layer.top[number] = f"{layer.name}/alone"
                else:
                    now[top] = top
            layer.bottom[:] = bottoms
    return str(text_format.MessageToString(solver))


@pytest.mark.parametrize("name", ["two_heads", "resnet20", "siamese"])
def test_working_in_place_changes_no_gradient(name: str, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    variants: list[dict[str, object]] = [
        {"activation": kind, "bn": bn, "bn_scale": True, "dropout": 0.4}
        for kind in ("relu", "tanh", "elu", "sigmoid", "prelu")
        for bn in ("before", "after", "none")
    ]
    made = generate_on_base([study(variants)], load_base(make_base(name, pictures)))
    assert made.refused == {}
    paths = []
    for variant, text in made.texts.items():
        assert never_in_place(text) != text
        for kind, one in (("as_it_is", text), ("alone", never_in_place(text))):
            paths.append(pictures / f"{name}.{variant}.{kind}.prototxt")
            paths[-1].write_text(one)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "GLOG_minloglevel": "2"}
    command = [sys.executable, "-c", GRADIENTS, *map(str, paths)]
    done = subprocess.run(command, cwd=pictures, capture_output=True, text=True, env=environment, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(paths)
    for variant, (one, other) in zip(variants, zip(lines[::2], lines[1::2], strict=True), strict=True):
        assert list(one) == list(other)
        for layer in one:
            for a, b in zip(one[layer], other[layer], strict=True):
                assert np.allclose(a, b, rtol=1e-3, atol=1e-6), (variant, layer)
