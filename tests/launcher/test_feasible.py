"""What cannot be done is refused by its cause, in one line, before training: no symptom, no useless retry."""

from __future__ import annotations

import io
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import lmdb
import pytest
from PIL import Image

from caffebench.engine.features import caffe_has_leveldb, caffe_has_opencv, caffe_is_there
from caffebench.engine.locate import caffe_pb2, caffe_tool
from caffebench.launcher.run.failures import explain
from caffebench.launcher.show.logtail import LogTail
from caffebench.launcher.state.paths import RunPaths


def edited(bench: Any, *changes: tuple[str, str], **values: object) -> Path:
    path: Path = bench.solver(**{"max_iter": 20, **values})
    text = (bench.folder / path).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (bench.folder / path).write_text(text)
    return path


def refusal(bench: Any, *changes: tuple[str, str]) -> str:
    """The line that a solver is refused with, before there is a log."""
    error = bench.run(edited(bench, *changes), code=2)
    assert not (bench.folder / "logs").exists()
    return str(error.splitlines()[-1])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'lr_policy: "step"',
            'lr_policy: "cosine"',
            "has an unknown lr_policy 'cosine': choose one of fixed, step, exp",
        ),
        ('lr_policy: "step"', "", "has no lr_policy: choose one of"),
        ("stepsize: 500", "", "has lr_policy step and no stepsize"),
        ("solver_mode: CPU", 'type: "adam"', "has an unknown solver type 'adam': choose one of SGD, Nesterov"),
    ],
)
def test_a_solver_that_no_caffe_can_follow(bench: Any, old: str, new: str, message: str) -> None:
    assert message in refusal(bench, (old, new))


def test_a_policy_that_the_header_replaces(bench: Any) -> None:
    path = edited(bench, ('lr_policy: "step"', ""))
    text = (bench.folder / path).read_text()
    (bench.folder / path).write_text("# caffebench: lr_schedule: {policy: cosine}\n" + text)
    bench.run(path)


@pytest.mark.parametrize("field", ["net_param", "train_net_param"])
def test_layers_of_2014_inside_the_solver(bench: Any, field: str) -> None:
    (bench.folder / "old.prototxt").write_text(
        field + ' { layers { name: "data" type: DATA top: "data" top: "label" data_param '
        '{ source: "data/digits/train_lmdb" backend: LMDB batch_size: 32 } } } '
        'base_lr: 1 lr_policy: "fixed" max_iter: 9'
    )
    line = bench.run("old.prototxt", code=2).splitlines()[-1]
    assert "holds a net in the layout of before 2015 (data and others are 'layers')" in line
    assert 'name that with net: "FILE"' in line


@pytest.mark.skipif(caffe_is_there() and caffe_has_opencv(), reason="this Caffe was built with OpenCV")
def test_images_without_opencv(bench: Any) -> None:
    data = 'type: "Data" top: "data" top: "label" include { phase: TRAIN }'
    line = refusal(bench, (data, data.replace("Data", "ImageData")))
    assert "layer data of small.prototxt (ImageData) reads image files, and this Caffe was built without OpenCV" in line


@pytest.mark.skipif(caffe_is_there() and caffe_has_opencv(), reason="this Caffe was built with OpenCV")
def test_encoded_records_without_opencv(bench: Any) -> None:
    png = io.BytesIO()
    Image.new("L", (8, 8)).save(png, "PNG")
    with (
        lmdb.open(str(bench.folder / "png"), map_size=1 << 24) as environment,
        environment.begin(write=True) as writing,
    ):
        for number in range(50):
            datum = caffe_pb2().Datum(data=png.getvalue(), encoded=True, label=number % 10, channels=1)
            writing.put(b"%08d" % number, datum.SerializeToString())
    line = refusal(bench, ("data/digits/train_lmdb", "png"))
    assert "the images in png are stored as files (JPEG, PNG), which this Caffe, built without OpenCV, cannot" in line
    path = edited(bench, ("data/digits/train_lmdb", "png"))
    text = (bench.folder / path).read_text()
    (bench.folder / path).write_text("# caffebench: loader: {workers: 1}\n" + text)
    bench.run(path)
    assert "which this Caffe" in refusal_of_test_images(bench)


def refusal_of_test_images(bench: Any) -> str:
    return str(bench.run(edited(bench, ("data/digits/test_lmdb", "png")), "--fresh", code=2).splitlines()[-1])


@pytest.mark.skipif(caffe_is_there() and caffe_has_leveldb(), reason="this Caffe was built with LevelDB")
def test_leveldb(bench: Any) -> None:
    train = 'source: "data/digits/train_lmdb" backend: LMDB'
    line = refusal(bench, (train, train.replace("LMDB", "LEVELDB")))
    assert (
        "layer data of small.prototxt reads a LevelDB (data/digits/train_lmdb), and this Caffe was built with" in line
    )
    line = refusal(bench, (train, train.replace("backend: LMDB", "")))
    assert "has no backend, so Caffe takes data/digits/train_lmdb for a LevelDB" in line
    assert "for an LMDB add backend: LMDB" in line


LAYERS = """
import caffe
{}

class Fine(caffe.Layer):
    def setup(self, bottom, top): {}
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        self.count = getattr(self, "count", 0) + 1
        if self.count > 3: raise IndexError("list index out of range")
        top[0].data[...] = bottom[0].data
    def backward(self, top, down, bottom): bottom[0].diff[...] = top[0].diff
"""


@pytest.mark.parametrize(
    ("module", "layer", "code", "setup", "message"),
    [
        ("nosuch", "Fine", "", "pass", "is of the Python module 'nosuch', which is neither installed nor in"),
        ("mine", "NoSuch", "", "pass", "mine.py has no class NoSuch"),
        ("mine", "Fine", "import h5pyy", "pass", "cannot be made: ModuleNotFoundError: No module named 'h5pyy'"),
        ("mine", "Fine", "x = = 1", "pass", "cannot be made: SyntaxError: invalid syntax"),
        ("mine", "Fine", "1 / 0", "pass", "cannot be made: ZeroDivisionError: division by zero"),
        ("mine", "Fine", "", "raise ValueError('no /data/x.txt')", "ValueError: no /data/x.txt (in "),
        ("mine", "Fine", "", "pass", "IndexError: list index out of range (in "),
    ],
)
def test_python_layers(bench: Any, module: str, layer: str, code: str, setup: str, message: str) -> None:
    (bench.folder / "mine.py").write_text(LAYERS.format(code, setup))
    python = f'python_param {{ module: "{module}" layer: "{layer}" }}'
    python = f'layer {{ name: "py" type: "Python" bottom: "fc2" top: "py" {python} }}\n'
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc2"'
    importable = not re.search("cannot be made|has no class|neither installed", message)
    path = edited(bench, (loss, python + loss.replace("fc2", "py")))
    error = bench.run(path, "--allow-python-layers", code=1 if importable else 2)
    assert message in error.splitlines()[-1]
    if importable:
        assert f"(in mine.py, line {6 if 'raise' in setup else 10})" in error.splitlines()[-1]
    assert "retry" not in error
    assert not bench.log(2)


def test_another_solver_type_on_resume(bench: Any) -> None:
    """The same number of history blobs, or twice as many: what they mean is another thing in either case."""
    for other in ("Nesterov", "Adam"):
        bench.run(edited(bench), "--fresh")
        kept = bench.weights(20)
        path = edited(bench, ("solver_mode: CPU", f'solver_mode: CPU type: "{other}"'), max_iter=40)
        line = bench.run(path, code=2).splitlines()[-1]
        assert f"small was trained up to iteration 20 by SGD, and its solver is {other} now" in line
        assert "--weights snapshots/small_iter_20.caffemodel" in line
        assert bench.weights(20) == kept


def test_and_of_a_snapshot_that_says_no_type(bench: Any) -> None:
    bench.run(edited(bench))
    (bench.folder / "snapshots/small_iter_20.json").unlink()
    path = edited(bench, ("solver_mode: CPU", 'solver_mode: CPU type: "Adam"'), max_iter=40)
    error = bench.run(path, code=1)
    assert "the solver state is of another solver type, or of another net" in error.splitlines()[-1]
    assert "retry" not in error


def test_an_unknown_layer_type(tmp_path: Path) -> None:
    log = tmp_path / "x.001.log"
    known = ", ".join(f"Type{n}" for n in range(60))
    log.write_text(
        "F20261126 00:40:00.000000 1 layer_factory.hpp:81] Check failed: registry.count(type) == 1 (0 vs. 1) "
        f"Unknown layer type: Pooling2 (known types: {known})\n"
    )
    tail = LogTail.of_file(log)
    failure = explain(-6, tail, RunPaths("x", tmp_path, tmp_path))
    assert re.fullmatch(r"Caffe gave up: this Caffe has no layer type Pooling2", failure.message)
    assert not failure.retry


def data(phase: str, database: str, more: str = "") -> str:
    source = f'data_param {{ source: "data/{database}_lmdb" batch_size: 8 backend: LMDB }}'
    return (
        f'layer {{ name: "data" type: "Data" top: "data" top: "label" {source} include {{ phase: {phase} {more} }} }}\n'
    )


TRAIN, TEST = data("TRAIN", "digits/train"), data("TEST", "digits/test")
CROPPED = TRAIN.replace('top: "label"', 'top: "label" transform_param { crop_size: 6 }')
POOLED = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" inner_product_param { num_output: 10 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
CONVOLVED = POOLED.replace('type: "InnerProduct"', 'type: "Convolution"').replace(
    "inner_product_param { num_output: 10 }", "convolution_param { num_output: 10 kernel_size: 1 }"
)
TESTS = "test_iter: 2\ntest_interval: 5\n"


@pytest.mark.parametrize(
    ("net", "tests", "trains"),
    [
        (CROPPED + TEST + POOLED, TESTS, True),  # tested on whole images
        (CROPPED + TEST + CONVOLVED, TESTS, True),
        (CROPPED + TEST + POOLED.replace("global_pooling: true", "kernel_size: 2"), TESTS, False),
        (CROPPED + TEST + CONVOLVED.replace("global_pooling: true", "kernel_size: 4"), TESTS, False),
        (TRAIN + data("TEST", "none/test") + POOLED, "", True),  # no test is asked for
        (TRAIN + data("TEST", "none/test") + POOLED, TESTS, False),
        (TRAIN + data("TRAIN", "none/train", 'stage: "large"') + TEST + POOLED, TESTS, True),
        (data("TRAIN", "none/train", 'not_stage: "x"') + TEST + POOLED, TESTS, False),
    ],
)
def test_data_are_refused_where_caffe_cannot_train_on_them_and_nowhere_else(
    bench: Any, net: str, tests: str, trains: bool
) -> None:
    text = (
        f'base_lr: 0.01\nlr_policy: "fixed"\nmax_iter: 10\nsolver_mode: CPU\nsnapshot_prefix: "snapshots/own"\n{tests}'
    )
    (bench.folder / "own.prototxt").write_text(f"{text}net_param {{\n{net}}}\n")
    (bench.folder / "snapshots").mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLOG_")}
    command = [caffe_tool(), "train", "-solver", "own.prototxt"]
    plain = subprocess.run(command, cwd=bench.folder, env=environment, capture_output=True, check=False)
    assert (plain.returncode == 0) == trains, plain.stderr.decode()[-500:]
    said = bench.run("own.prototxt", "--logs", "own", code=0 if trains else 2)
    assert ("done at iteration 10" in said) == trains
