"""make-lmdb digits: the records, the command around them, and Caffe's Data layer as the judge."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from caffebench.datasets.cli import main
from caffebench.datasets.datum import raw_record, read_record
from caffebench.datasets.digits import load_digits, make_digits
from caffebench.datasets.lmdb_writer import LmdbWriter


@pytest.mark.caffe
@pytest.mark.parametrize(("part", "count"), [("train", 1437), ("test", 360)])
def test_caffe_reads_all_records_as_they_were_scanned(
    digits_root: Path, read_by_caffe: Callable[..., Any], part: str, count: int
) -> None:
    data, labels = read_by_caffe(digits_root / "digits" / f"{part}_lmdb", count)
    assert data.shape == (count, 1, 8, 8)
    images, expected = load_digits()[part]
    np.testing.assert_array_equal(data, images)
    np.testing.assert_array_equal(labels, expected)
    assert 77 < data.mean() < 79
    assert data.max() == 255


def test_the_two_parts_are_all_digits_once_and_stratified() -> None:
    from sklearn.datasets import load_digits as load

    parts = load_digits()
    both = np.concatenate([images for images, _ in parts.values()])
    scans = np.round(load().images * 255 / 16).astype(np.uint8)
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in scans)
    total = np.bincount(load().target)
    for images, labels in parts.values():
        share = len(images) / total.sum()
        assert np.abs(np.bincount(labels) - total * share).max() <= 1


def test_train_records_are_shuffled_and_the_same_every_time(
    digits_root: Path, tmp_path: Path, records: Callable[[Path], dict[bytes, bytes]]
) -> None:
    make_digits(tmp_path)
    first = records(digits_root / "digits" / "train_lmdb")
    assert records(tmp_path / "train_lmdb") == first
    assert list(first) == [b"%08d" % position for position in range(1437)]
    labels = [read_record(record)[1] for record in first.values()]
    runs = sum(a != b for a, b in pairwise(labels))
    assert runs > 1200  # of 1,436 neighbours, nine in ten differ in a shuffled order


def test_command_prints_counts_and_means_and_leaves_a_complete_one_alone(tmp_path: Path) -> None:
    out = tmp_path / "data" / "digits"
    first = CliRunner().invoke(main, ["digits", str(out)])
    assert first.exit_code == 0, first.output
    assert f"{out}/train_lmdb: 1437 images, 10 classes, 1 x 8 x 8, mean 77.89" in first.output
    assert f"{out}/test_lmdb: 360 images, 10 classes, 1 x 8 x 8, mean 77.73" in first.output
    before = (out / "train_lmdb" / "data.mdb").stat()
    second = CliRunner().invoke(main, ["digits", str(out)])
    assert second.exit_code == 0
    assert second.output.count("already complete") == 2
    after = (out / "train_lmdb" / "data.mdb").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_something_else_in_the_way_is_not_overwritten_silently(
    tmp_path: Path, records: Callable[[Path], dict[bytes, bytes]], refused: Callable[..., str]
) -> None:
    target = tmp_path / "train_lmdb"
    mine = raw_record(np.zeros((1, 2, 2), np.uint8), 0)
    with LmdbWriter(target, {"kind": "mine"}) as writer:
        writer.put(0, mine)
        writer.finish()
    assert refused("digits", tmp_path) == (
        f"{target} is already there and was made from other data or with other options: "
        "choose another folder, or --force to replace it"
    )
    assert list(records(target).values()) == [mine.data]
    assert not (tmp_path / "test_lmdb").exists()
    assert CliRunner().invoke(main, ["digits", str(tmp_path), "--force"]).exit_code == 0
    assert len(records(target)) == 1437


def test_an_lmdb_that_somebody_else_made_is_not_taken_for_ours(tmp_path: Path, refused: Callable[..., str]) -> None:
    make_digits(tmp_path)
    (tmp_path / "test_lmdb" / "summary.json").unlink()
    assert refused("digits", tmp_path).startswith(
        f"{tmp_path}/test_lmdb is already there and was not made by make-lmdb"
    )


def test_a_folder_that_is_no_lmdb_is_kept_even_with_force(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "test_lmdb").mkdir()
    (tmp_path / "test_lmdb" / "thesis.txt").write_text("five years")
    assert "no LMDB" in refused("digits", tmp_path, "--force")
    assert (tmp_path / "test_lmdb" / "thesis.txt").read_text() == "five years"
