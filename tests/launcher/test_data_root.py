"""Another data root: it holds for all that the layers of a net read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caffebench.common.errors import InputError
from caffebench.engine.locate import caffe_pb2
from caffebench.launcher.solver.solverfile import SolverFile, parse_solver, read_solver

SOLVER = 'base_lr: 0.01 lr_policy: "fixed" max_iter: 20 display: 10\n'
LAYERS = """
layer { name: "h" type: "HDF5Data" top: "h" hdf5_data_param { source: "data/list" } }
layer { name: "i" type: "ImageData" top: "i" image_data_param { source: "./data/images" root_folder: "data/" } }
layer { name: "w" type: "WindowData" top: "w" window_data_param { source: "data/w" root_folder: "data/photos/" } }
layer { name: "x" type: "Data" top: "x" transform_param { mean_file: "data/x/mean" } data_param { source: "mydata/x" } }
layer { name: "l" type: "InfogainLoss" bottom: "h" bottom: "i" infogain_loss_param { source: "data/matrix" } }
"""


def with_net(layers: str) -> SolverFile:
    return SolverFile(Path("small"), parse_solver(f"net_param {{ {layers} }}", "small"), {}, {}, ())


def test_all_that_layers_read_is_moved() -> None:
    file = with_net(LAYERS)
    file.move_data(Path("/mnt/all"))
    hdf5, images, windows, data, loss = file.solver.net_param.layer
    assert hdf5.hdf5_data_param.source == "/mnt/all/list"
    assert (images.image_data_param.source, images.image_data_param.root_folder) == ("/mnt/all/images", "/mnt/all/")
    assert (windows.window_data_param.source, windows.window_data_param.root_folder) == (
        "/mnt/all/w",
        "/mnt/all/photos/",
    )
    assert (data.transform_param.mean_file, data.data_param.source) == ("/mnt/all/x/mean", "mydata/x")
    assert loss.infogain_loss_param.source == "/mnt/all/matrix"


def test_a_list_of_files_that_stay_where_they_were_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("data/h5/train.h5\n")
    with pytest.raises(InputError, match=r"list lists data/h5/train\.h5, which --data-root .* does not move"):
        with_net(LAYERS).move_data(tmp_path)
    (tmp_path / "list").write_text("/somewhere/train.h5\n")
    (tmp_path / "images").write_text("cats/1.jpg 3\n")  # below the root folder, which is moved
    with_net(LAYERS).move_data(tmp_path)


def test_a_mean_image_is_read_where_its_images_are(bench: Any) -> None:
    path = bench.folder / bench.solver(max_iter=20)
    path.write_text(path.read_text().replace("mean_value: 78", 'mean_file: "data/digits/mean.binaryproto"'))
    line = bench.run(path.name, code=2).splitlines()[-1]
    assert "layer data of small.prototxt names data/digits/mean.binaryproto, which is not there" in line
    folder = bench.folder / "elsewhere/digits"
    folder.mkdir(parents=True)
    for name in ("train_lmdb", "test_lmdb"):
        (folder / name).symlink_to(bench.folder / "data/digits" / name)
    mean = caffe_pb2().BlobProto(channels=1, height=8, width=8, num=1, data=[78.0] * 64)
    (folder / "mean.binaryproto").write_bytes(mean.SerializeToString())
    bench.run(path.name, "--data-root", "elsewhere")
    assert "Loading mean file from: elsewhere/digits/mean.binaryproto" in bench.log()
    assert "data/digits/train_lmdb" in read_solver(path).text(), "the file itself is as it was"


def test_what_no_layer_reads_need_not_be_there(bench: Any) -> None:
    path = bench.folder / bench.solver(max_iter=20)
    text = path.read_text()
    assert 'type: "ReLU"' in text
    path.write_text(text.replace('type: "ReLU"', 'type: "ReLU" transform_param { mean_file: "no.binaryproto" }', 1))
    bench.run(path.name)
