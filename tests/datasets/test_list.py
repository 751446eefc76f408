"""make-lmdb list: images that Caffe's list of `path label` names; and what is no such list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Pillow

from caffebench.datasets.cli import main
from caffebench.datasets.datum import read_record


def images(root: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(np.full((8, 8, 3), number + 1, np.uint8)).save(path)


def labels(records: dict[bytes, bytes]) -> dict[str, int]:
    return {key.decode()[9:]: read_record(value)[1] for key, value in records.items()}


def make(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["list", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_two_lists(tmp_path: Path, records: Callable[[Path], dict[bytes, bytes]]) -> None:
    images(tmp_path / "pictures", ["a/1.png", "a b/2 3.png", "4.png", "5.png"])
    (tmp_path / "train.txt").write_text("a/1.png 0\na b/2 3.png 2\r\n\n4.png 2\n")
    (tmp_path / "val.txt").write_text("5.png 1\n")
    said = make(
        tmp_path / "train.txt", tmp_path / "out", "--root", tmp_path / "pictures", "--test-list", tmp_path / "val.txt"
    )
    assert "train_lmdb: 3 images, 3 classes, 3 x 8 x 8" in said
    assert labels(records(tmp_path / "out" / "train_lmdb")) == {"a/1.png": 0, "a b/2 3.png": 2, "4.png": 2}
    assert labels(records(tmp_path / "out" / "test_lmdb")) == {"5.png": 1}
    assert not (tmp_path / "out" / "labels.txt").exists()


def test_one_list_is_split(tmp_path: Path, records: Callable[[Path], dict[bytes, bytes]]) -> None:
    names = [f"{number}.png" for number in range(20)]
    images(tmp_path, names)
    (tmp_path / "all.txt").write_text("".join(f"{name} {number % 2}\n" for number, name in enumerate(names)))
    make(tmp_path / "all.txt", tmp_path / "out", "--root", tmp_path, "--test-share", "0.3")
    train, test = (labels(records(tmp_path / "out" / f"{part}_lmdb")) for part in ("train", "test"))
    assert sorted(test.values()) == [0] * 3 + [1] * 3
    assert {**train, **test} == {name: number % 2 for number, name in enumerate(names)}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1.png,0", "line 2 is CSV"),
        ("1.png,1,0,1", "line 2 is CSV"),
        ("1.png 1 0 1", "line 2 has several labels for 1.png: a record of Caffe holds one"),
        ("1.png 0 1", "line 2 has several labels for 1.png"),
        ("1.png cat", "line 2 is no 'path label' with a label from 0 to"),
        ("1.png -1", "line 2 is no 'path label'"),
        ("1.png 1.5", "line 2 is no 'path label'"),
        ("1.png", "line 2 is no 'path label'"),
        ("1.png 99999999999999999999", "line 2 is no 'path label'"),
        ("2.png 1", "2.png is not there"),
    ],
)
def test_a_line_that_does_not_fit(tmp_path: Path, refused: Callable[..., str], line: str, says: str) -> None:
    images(tmp_path, ["0.png", "1.png"])
    (tmp_path / "list.txt").write_text(f"0.png 0\n{line}\n")
    assert says in refused("list", tmp_path / "list.txt", tmp_path / "out", "--root", tmp_path)
    assert not (tmp_path / "out").exists()


def test_lists_that_name_nothing_to_tell_apart(tmp_path: Path, refused: Callable[..., str]) -> None:
    images(tmp_path, ["0.png", "1.png"])
    for content, says in (("\n\n", "names no image"), ("0.png 0\n1.png 0\n", "has no label but 0")):
        (tmp_path / "list.txt").write_text(content)
        assert says in refused("list", tmp_path / "list.txt", tmp_path / "out", "--root", tmp_path)
    (tmp_path / "list.txt").write_text("0.png 0\n1.png 1\n")
    (tmp_path / "val.txt").write_text("0.png 2\n")
    arguments = [
        "list",
        tmp_path / "list.txt",
        tmp_path / "out",
        "--root",
        tmp_path,
        "--test-list",
        tmp_path / "val.txt",
    ]
    assert "with a label from 0 to 1" in refused(*arguments)
    assert "leave --test-share out" in refused(*arguments, "--test-share", "0.5")


def test_a_list_that_cannot_be_read(tmp_path: Path, refused: Callable[..., str]) -> None:
    images(tmp_path, ["0.png", "1.png"])
    good, folder, missing = tmp_path / "list.txt", tmp_path / "folder", tmp_path / "nosuch.txt"
    good.write_text("0.png 0\n1.png 1\n")
    folder.mkdir()
    out = [tmp_path / "out", "--root", tmp_path]
    for arguments in (["list", missing, *out], ["list", good, *out, "--test-list", missing]):
        assert refused(*arguments) == f"{missing}: No such file or directory: give a list of lines 'path label'"
    assert refused("list", folder, *out) == f"{folder} is no regular file"
