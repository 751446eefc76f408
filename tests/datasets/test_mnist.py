"""make-lmdb mnist: the idx format, packed or not, and everything that is none."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from caffebench.datasets.cli import main

RANDOM = np.random.RandomState(3)
IMAGES = {
    "train": RANDOM.randint(0, 256, (30, 28, 28)).astype(np.uint8),
    "t10k": RANDOM.randint(0, 256, (20, 28, 28)).astype(np.uint8),
}
LABELS = {name: np.arange(len(images), dtype=np.uint8) % 10 for name, images in IMAGES.items()}


def gzipped(data: bytes) -> bytes:
    """Without the time, so that tests are called the same in every process."""
    return gzip.compress(data, mtime=0)


def idx(array: np.ndarray[Any, Any]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def publish(folder: Path, packed: bool = True, dotted: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in IMAGES:
        for what, array in (("images-idx3", IMAGES[name]), ("labels-idx1", LABELS[name])):
            path = folder / f"{name}-{what.replace('-', '.') if dotted else what}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzipped(idx(array)) if packed else idx(array))
    return folder


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("inner", "packed", "dotted"),
    [(".", True, False), (".", False, False), (".", False, True), ("MNIST/raw", True, False)],
)
def test_caffe_reads_what_was_published(
    tmp_path: Path, read_by_caffe: Callable[..., Any], inner: str, packed: bool, dotted: bool
) -> None:
    publish(tmp_path / "src" / inner, packed, dotted)
    result = CliRunner().invoke(main, ["mnist", str(tmp_path / "src"), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    mean = IMAGES["train"].mean()
    assert f"{tmp_path}/out/train_lmdb: 30 images, 10 classes, 1 x 28 x 28, mean {mean:.2f}\n" in result.stdout
    for name, lmdb in (("train", "train_lmdb"), ("t10k", "test_lmdb")):
        data, labels = read_by_caffe(tmp_path / "out" / lmdb, len(IMAGES[name]))
        np.testing.assert_array_equal(data[:, 0], IMAGES[name])
        np.testing.assert_array_equal(labels, LABELS[name])
    again = CliRunner().invoke(main, ["mnist", str(tmp_path / "src"), str(tmp_path / "out")])
    assert again.exit_code == 0
    assert again.stdout.count("already complete") == 2


def test_another_set_in_the_same_form_is_not_taken_for_this_one(tmp_path: Path, refused: Callable[..., str]) -> None:
    publish(tmp_path)
    assert CliRunner().invoke(main, ["mnist", str(tmp_path), str(tmp_path / "out")]).exit_code == 0
    other = idx(255 - IMAGES["train"])
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzipped(other))
    assert "was made from other data" in refused("mnist", tmp_path, tmp_path / "out")


GOOD = idx(IMAGES["train"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no idx file"),
        (b"<html>404</html>", "is damaged or no gzip file"),
        (gzipped(GOOD)[:-20], "is damaged or no gzip file"),
        (gzipped(b""), "is no idx file of unsigned bytes with 3 dimensions"),
        (gzipped(b"P5 28 28"), "is no idx file"),
        (gzipped(b"\0\0\x0d\x03" + GOOD[4:]), "is no idx file"),
        (gzipped(idx(LABELS["train"])), "is no idx file of unsigned bytes with 3 dimensions"),
        (gzipped(GOOD[:-1]), "is damaged: it announces 30 x 28 x 28 bytes, and 23519 follow"),
        (
            gzipped(b"\0\0\x08\x03" + b"\x7f\xff\xff\xff" * 3 + b"x"),
            "is damaged: it announces 2147483647 x",
        ),
        (gzipped(b"\0\0\x08\x03" + b"\xff\xff\xff\xff" * 3 + b"x"), "is damaged: it announces -1 x"),
        (gzipped(idx(IMAGES["t10k"])), "do not belong together: 20 images, 30 labels"),
    ],
)
def test_a_file_that_is_something_else(tmp_path: Path, refused: Callable[..., str], content: bytes, says: str) -> None:
    publish(tmp_path / "src")
    (tmp_path / "src" / "train-images-idx3-ubyte.gz").write_bytes(content)
    line = refused("mnist", tmp_path / "src", tmp_path / "out")
    assert says in line
    assert "train-images-idx3-ubyte.gz" in line
    assert not (tmp_path / "out").exists()


def test_no_such_folder_and_a_missing_file(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "is no folder" in refused("mnist", tmp_path / "nowhere", tmp_path / "out")
    publish(tmp_path / "src")
    (tmp_path / "src" / "t10k-labels-idx1-ubyte.gz").unlink()
    line = refused("mnist", tmp_path / "src", tmp_path / "out")
    assert line == (
        f"{tmp_path}/src has no t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz: "
        "give the folder with MNIST's four files"
    )
