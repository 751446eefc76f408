"""Labels beyond the outputs of a net are refused before the start, wherever the data say them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from PIL import Image

from caffebench.engine.messages import caffe_messages
from caffebench.launcher.plan.labels import labels_of_list, labels_of_lmdb


def write_lmdb(path: Path, labels: list[int], kind: str = "raw") -> None:
    """An LMDB of 8 x 8 images with these labels: raw pixels, PNG files, or numbers."""
    pixels = np.zeros((8, 8), np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for number, label in enumerate(labels):
            datum = caffe_messages().Datum(channels=1, height=8, width=8, label=label)
            if kind == "raw":
                datum.data = pixels.tobytes()
            elif kind == "png":
                datum.data, datum.encoded = png.getvalue(), True
            else:
                datum.float_data.extend([0.5] * 64)
            transaction.put(b"%08d" % number, datum.SerializeToString())


def solver_on(bench: Any, *changes: tuple[str, str]) -> Path:
    path: Path = bench.solver(max_iter=20)
    text = (bench.folder / path).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (bench.folder / path).write_text(text)
    return path


TRAIN = "data/digits/train_lmdb"
LAST = "inner_product_param { num_output: 10"


def refused(bench: Any, *changes: tuple[str, str]) -> str:
    error = bench.run(solver_on(bench, *changes), code=2)
    assert not (bench.folder / "logs").exists()
    return str(error.splitlines()[-1])


@pytest.mark.parametrize("kind", ["raw", "png", "numbers"])
def test_labels_of_an_lmdb(tmp_path: Path, kind: str) -> None:
    write_lmdb(tmp_path / "x", [0, 3, 200, 70000, 3, -1], kind)
    assert labels_of_lmdb(tmp_path / "x") == {0, 3, 200, 70000, -1}


def test_labels_of_a_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg 0\nfolder/b c.jpg 12\nd.jpg 3\n\n")
    assert labels_of_list(tmp_path / "list.txt", (0, 0)) == {0, 12, 3}


def test_a_net_with_too_few_outputs(bench: Any) -> None:
    line = refused(bench, (LAST, "inner_product_param { num_output: 9"))
    assert (
        "small.prototxt: the LMDB data/digits/train_lmdb has labels up to 9, and fc2, which layer loss of the train"
        in (line)
    )
    assert "has 9 outputs (labels 0 to 8): set its num_output to the number of classes" in line


def test_only_the_last_of_many_labels_is_beyond(bench: Any) -> None:
    write_lmdb(bench.folder / "many", [n % 10 for n in range(3000)] + [10])
    assert "the LMDB many has labels up to 10, and fc2" in refused(bench, (TRAIN, "many"))


def test_labels_below_zero(bench: Any) -> None:
    write_lmdb(bench.folder / "signed", [0, 1, -1])
    assert "the LMDB signed has labels below 0 (-1)" in refused(bench, (TRAIN, "signed"))


def test_a_test_net_alone(bench: Any) -> None:
    write_lmdb(bench.folder / "other", [0, 11])
    line = refused(bench, ("data/digits/test_lmdb", "other"))
    assert "the LMDB other has labels up to 11, and fc2, which layer accuracy of test net 0" in line


def test_the_second_of_two_test_stages(bench: Any) -> None:
    write_lmdb(bench.folder / "other", [0, 11])
    path = solver_on(
        bench,
        ("test_iter: 7", 'test_iter: 7 test_iter: 1 test_state { stage: "a" } test_state { stage: "b" }'),
    )
    text = (bench.folder / path).read_text()
    layer = text[text.index('name: "data" type: "Data"', text.index("phase: TRAIN")) - 12 :]
    layer = layer[: layer.index("layer {", 10)]
    two = layer.replace("phase: TEST", 'phase: TEST stage: "a"')
    two += two.replace("data/digits/test_lmdb", "other").replace('"a"', '"b"')
    (bench.folder / path).write_text(text.replace(layer, two))
    line = bench.run(path, code=2).splitlines()[-1]
    assert "the LMDB other has labels up to 11, and fc2, which layer accuracy of test net 1" in line


def test_a_label_that_is_ignored(bench: Any) -> None:
    write_lmdb(bench.folder / "ignoring", [n % 10 for n in range(50)] + [255])
    ignoring = ('top: "loss" }', 'top: "loss" loss_param { ignore_label: 255 } }')
    bench.run(solver_on(bench, (TRAIN, "ignoring"), ignoring))
    assert "labels up to 255" in bench.run(solver_on(bench, (TRAIN, "ignoring")), "--fresh", code=2)


def test_outputs_that_only_the_built_net_tells(bench: Any) -> None:
    """A Reshape: how many channels come of it is known once Caffe has built it; still nothing is trained."""
    accuracy = 'layer {\n    name: "accuracy" type: "Accuracy" bottom: "fc2"'
    reshape = 'layer { name: "r" type: "Reshape" bottom: "fc2" top: "r" reshape_param { shape { dim: 0 dim: -1 } } }'
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc2"'
    changes = [(old, f"{new}{old.replace('fc2', 'r')}") for old, new in ((accuracy, reshape), (loss, ""))]
    bench.run(solver_on(bench, *changes))
    few = (LAST, "inner_product_param { num_output: 8")
    line = bench.run(solver_on(bench, *changes, few), "--fresh", code=2).splitlines()[-1]
    assert "small: the LMDB data/digits/train_lmdb has labels up to 9, and r, which layer loss of the train net" in line
    assert "Starting Optimization" not in bench.log()


def test_a_net_in_the_layout_of_2014(bench: Any) -> None:
    net = """
        layers { name: "data" type: DATA top: "data" top: "label"
                 data_param { source: "data/digits/train_lmdb" backend: LMDB batch_size: 32 } }
        layers { name: "fc" type: INNER_PRODUCT bottom: "data" top: "fc" inner_product_param { num_output: 7 } }
        layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" top: "loss" }
    """
    (bench.folder / "old.net.prototxt").write_text(net)
    (bench.folder / "old.prototxt").write_text(
        'net: "old.net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 10 display: 5'
    )
    line = bench.run("old.prototxt", code=2).splitlines()[-1]
    assert "has labels up to 9, and fc, which layer loss of the train net compares them with, has 7 outputs" in line
