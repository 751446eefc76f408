"""Generated nets on real Caffe: every one is built, every one on the digits runs forward and backward."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from caffebench.generator.generate import write

EveryFile = Callable[[str], dict[str, str]]
AT_ONCE = 40  # files in one child process: a C++ CHECK ends the process, and the report should be near the file


def written(texts: dict[str, str], folder: Path) -> list[str]:
    write(texts, folder)
    return [f"{name}.prototxt" for name in texts]


def in_children(program: str, names: list[str], folder: Path) -> dict[str, dict[str, object]]:
    """What ``program`` prints for each file, a line of JSON."""
    found = {}
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "GLOG_minloglevel": "2"}
    for start in range(0, len(names), AT_ONCE):
        command = [sys.executable, "-c", program, *names[start : start + AT_ONCE]]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
        found |= {one["file"]: one for one in map(json.loads, done.stdout.splitlines())}
        assert done.returncode == 0, f"after {list(found)[-1:]}: {done.stderr[-2000:]}"
    return found


RUN = """
import json, sys, caffe, numpy
caffe.set_mode_cpu()
for path in sys.argv[1:]:
    caffe.set_random_seed(1)
    net = caffe.get_solver(path).net
    net.forward()
    net.backward()
    losses = {name: float(net.blobs[name].data) for name in net.outputs}
    types = dict(zip(net._layer_names, (layer.type for layer in net.layers)))
    learnable = {name: blobs for name, blobs in net.params.items() if types[name] != "BatchNorm"}
    still = [name for name, blobs in learnable.items() if not numpy.abs(blobs[0].diff).max() > 0]
    wild = [name for name, blobs in learnable.items() for blob in blobs if not numpy.isfinite(blob.diff).all()]
    print(json.dumps({"file": path, "losses": losses, "learnable": len(learnable), "still": still, "wild": wild}))
"""


@pytest.mark.caffe
def test_every_digits_file_runs_forward_and_backward(digits_root: Path, tmp_path: Path, every_file: EveryFile) -> None:
    (tmp_path / "data").symlink_to(digits_root)
    (tmp_path / "snapshots").mkdir()
    names = written(every_file("digits"), tmp_path)
    found = in_children(RUN, names, tmp_path)
    assert list(found) == names
    for name, one in found.items():
        assert one["losses"], name
        assert all(0 < loss < 100 for loss in one["losses"].values()), (name, one["losses"])
        assert one["learnable"] >= 8, name
        assert (one["still"], one["wild"]) == ([], []), name


# ImageNet and CIFAR-10 are not at hand, nor is Fashion-MNIST everywhere:
# their data layers become dummies that give one picture of the right size.
# Files that then have one net are built once: batch sizes and solvers differ, layers do not.
BUILD = """
import json, os, sys, caffe
from caffe.proto import caffe_pb2
from google.protobuf import text_format
caffe.set_mode_cpu()
built = {}
for path in sys.argv[1:]:
    net = text_format.Parse(open(path).read(), caffe_pb2.SolverParameter()).net_param
    for layer in net.layer:
        if layer.type == "DummyData":
            layer.dummy_data_param.shape[0].dim[0] = 1
        if layer.type == "Data":
            layer.type = "DummyData"
            side = layer.transform_param.crop_size or int(os.environ["SIDE"])
            channels = len(layer.transform_param.mean_value)
            layer.dummy_data_param.shape.add().dim.extend([1, channels, side, side])
            layer.dummy_data_param.shape.add().dim.extend([1])
            layer.ClearField("data_param")
            layer.ClearField("transform_param")
        for filler in (layer.convolution_param.weight_filler, layer.inner_product_param.weight_filler):
            filler.type = "constant"  # a hundred million gaussian numbers take their time
    for phase in (caffe.TRAIN, caffe.TEST):
        text = str(net)
        key = (text, phase)
        if key not in built:
            with open("net.prototxt.txt", "w") as file:
                file.write(text)
            made = caffe.Net("net.prototxt.txt", phase)
            scores = [layer.bottom[0] for layer in net.layer if layer.type == "SoftmaxWithLoss"]
            built[key] = sorted({made.blobs[name].data.shape[1] for name in scores})
    print(json.dumps({"file": path, "side": side, "classes": built[key]}))
"""


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("profile", "side", "classes"), [("imagenet128", 128, 1000), ("cifar10", 32, 10), ("fashion", 28, 10)]
)
def test_every_other_file_is_built(
    profile: str, side: int, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_file: EveryFile
) -> None:
    monkeypatch.setenv("SIDE", str(side))
    names = written(every_file(profile), tmp_path)
    found = in_children(BUILD, names, tmp_path)
    assert list(found) == names
    for name, one in found.items():
        assert one["classes"] == [classes], name
        loader = name.startswith("workers") and profile == "imagenet128"
        assert one["side"] == (224 if loader else side), name


RRELU = """
import json, sys, caffe, numpy
caffe.set_mode_cpu()
solver = caffe.get_solver(sys.argv[1])
slopes = []
for net in (solver.net, solver.net, solver.test_nets[0]):
    net.forward()
    x, y = net.blobs["conv2"].data, net.blobs["conv2/rrelu"].data
    slopes.append((y[x < 0] / x[x < 0]).copy())
    assert numpy.array_equal(y[x >= 0], x[x >= 0])
net = solver.net
net.forward()
net.backward()
x, y = net.blobs["conv2"], net.blobs["conv2/rrelu"]
slope = numpy.where(x.data < 0, y.data / x.data, 1)
error = float(numpy.abs(x.diff - slope * y.diff).max() / numpy.abs(x.diff).max())
ranges = [[float(one.min()), float(one.mean()), float(one.max())] for one in slopes]
print(json.dumps({"file": sys.argv[1], "ranges": ranges, "error": error}))
"""


@pytest.mark.caffe
def test_rrelu_has_random_slopes_in_training_and_their_mean_in_test(
    digits_root: Path, tmp_path: Path, every_file: EveryFile
) -> None:
    (tmp_path / "data").symlink_to(digits_root)
    (tmp_path / "snapshots").mkdir()
    write({"act_rrelu": every_file("digits")["act_rrelu"]}, tmp_path)
    (found,) = in_children(RRELU, ["act_rrelu.prototxt"], tmp_path).values()
    first, second, test = found["ranges"]  # type: ignore[misc]
    for low, mean, high in (first, second):
        assert (0.124, 0.32) < (low, high) < (0.14, 0.334)
        assert mean == pytest.approx((0.125 + 0.333) / 2, abs=0.005)
    assert first != second
    assert test == pytest.approx([(0.125 + 0.333) / 2] * 3, abs=1e-5)
    assert found["error"] < 1e-5  # type: ignore[operator]
