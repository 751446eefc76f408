"""Pictures that were replaced make other data, pictures that were copied again do not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Pillow

from caffebench.common.errors import StoppedError
from caffebench.datasets import folder
from caffebench.datasets.cli import main
from caffebench.datasets.folder import Advance, make_images
from caffebench.datasets.images import ImageOptions
from caffebench.datasets.layout import read_layout


def draw(path: Path, seed: int) -> None:
    """A bitmap: all of them have the same size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.random.RandomState(seed).randint(0, 256, (8, 9, 3)).astype(np.uint8)).save(path)


@pytest.fixture
def src(tmp_path: Path) -> Path:
    for number in range(40):
        draw(tmp_path / "src" / "cd"[number % 2] / f"{number}.bmp", number)
    (tmp_path / "src" / "c" / "damaged.bmp").write_bytes(bytes(278))
    return tmp_path / "src"


def copy_again(src: Path) -> None:
    """To the same place, with other times."""
    copies = src.with_name("copies")
    shutil.copytree(src, copies, copy_function=shutil.copyfile)
    shutil.rmtree(src)
    for number, path in enumerate(sorted(copies.rglob("*.bmp"))):
        os.utime(path, (number, number))
    copies.rename(src)


def replace_one(src: Path) -> None:
    draw(src / "c" / "0.bmp", 99)


def exchange_two(src: Path) -> None:
    (src / "c" / "0.bmp").rename(src / "x")
    (src / "d" / "1.bmp").rename(src / "c" / "0.bmp")
    (src / "x").rename(src / "d" / "1.bmp")


def mend_the_damaged(src: Path) -> None:
    draw(src / "c" / "damaged.bmp", 99)


CHANGES = [replace_one, exchange_two, mend_the_damaged]


def make(src: Path, out: Path) -> list[Advance]:
    """What it reported: nothing where no image was read."""
    steps: list[Advance] = []
    make_images(read_layout(src), out, ImageOptions(), jobs=1, report=steps.append)
    return steps


@pytest.mark.parametrize("change", CHANGES)
def test_others_of_the_same_size(
    tmp_path: Path, src: Path, refused: Callable[..., str], change: Callable[[Path], None]
) -> None:
    make(src, tmp_path / "out")
    change(src)
    assert {path.stat().st_size for path in src.rglob("*.bmp")} == {278}
    assert "was made from other data" in refused("folder", src, tmp_path / "out")


def test_others_of_the_same_size_in_a_list(tmp_path: Path, src: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "list").write_text("".join(f"{path} {path.parent.name == 'd':d}\n" for path in src.rglob("*.bmp")))
    arguments = ["list", tmp_path / "list", tmp_path / "out", "--root", "/"]
    for already in (0, 2):
        result = CliRunner().invoke(main, list(map(str, arguments)))
        assert result.stdout.count("already complete") == already, result.output
    exchange_two(src)
    assert "was made from other data" in refused(*arguments)


def test_copies_are_read_once_and_known_then(tmp_path: Path, src: Path) -> None:
    make(src, tmp_path / "out")
    assert not make(src, tmp_path / "out")
    database = tmp_path / "out" / "train_lmdb" / "data.mdb"
    written = database.stat().st_mtime_ns
    copy_again(src)
    assert max(step.done for step in make(src, tmp_path / "out")) == 37
    assert not make(src, tmp_path / "out")
    assert database.stat().st_mtime_ns == written


@pytest.mark.parametrize("change", [copy_again, *CHANGES])
def test_half_made_from_pictures_that_changed_then(
    tmp_path: Path,
    src: Path,
    monkeypatch: pytest.MonkeyPatch,
    records: Callable[[Path], dict[bytes, bytes]],
    change: Callable[[Path], None],
) -> None:
    monkeypatch.setattr(folder, "_CHUNK", 4)
    layout = read_layout(src)
    last = max(place for place, (path, _) in enumerate(layout.parts["train"]) if path in ("c/0.bmp", "d/1.bmp"))

    def stop(at: Advance) -> None:
        if at.done > last:
            raise KeyboardInterrupt

    with pytest.raises(StoppedError):
        make_images(layout, tmp_path / "out", ImageOptions(), jobs=1, report=stop)
    change(src)
    steps: list[Advance] = []
    made = make_images(read_layout(src), tmp_path / "out", ImageOptions(), jobs=1, report=steps.append)
    began = [step.path.name for step in steps if step.done == 0]
    # What is damaged is tried again anyway.
    assert ("train_lmdb" in began) == (change in (replace_one, exchange_two))
    whole = make_images(read_layout(src), tmp_path / "whole", ImageOptions(), jobs=1)
    assert [one.summary for one in made] == [one.summary for one in whole]
    for part in ("train", "test"):
        assert records(tmp_path / "out" / f"{part}_lmdb") == records(tmp_path / "whole" / f"{part}_lmdb")


def test_what_an_earlier_version_made_is_believed(tmp_path: Path, src: Path) -> None:
    make(src, tmp_path / "out")
    for part in ("train", "test"):
        path = tmp_path / "out" / f"{part}_lmdb" / "summary.json"
        summary = json.loads(path.read_text())
        del summary["checksum"], summary["source"]["times"]
        path.write_text(json.dumps(summary))
    copy_again(src)
    assert not make(src, tmp_path / "out")
