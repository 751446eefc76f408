"""Which folders are classes, which are parts, which files are images, and what is said of the rest."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image as Pillow

from caffebench.datasets.cli import main
from caffebench.datasets.layout import read_layout


def draw(path: Path, form: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", (8, 8), (200, 100, 50)).save(path, form)


def classes(folder: Path, *names: str, each: int = 2) -> None:
    for name in names:
        for number in range(each):
            draw(folder / name / f"{number}.png")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "valid"),
        ("Train", "Test"),
        ("TRAIN", "Validation"),
        ("training", "testing"),
        ("Training Set", "Test Set"),
        ("train2017", "val2017"),
        ("train_images", "test_images"),
    ],
)
def test_folders_that_are_parts_whatever_their_spelling(tmp_path: Path, train: str, test: str) -> None:
    classes(tmp_path / train, "cat", "dog")
    classes(tmp_path / test, "cat", "dog", each=1)
    found = read_layout(tmp_path)
    assert found.classes == ("cat", "dog")
    assert sorted(found.parts["test"]) == [(f"{test}/cat/0.png", 0), (f"{test}/dog/0.png", 1)]
    assert len(found.parts["train"]) == 4
    assert found.left_out == ()


@pytest.mark.parametrize(
    ("folders", "test"),
    [
        (["train", "valid", "test"], "test"),
        (["train", "validation", "test"], "test"),
        (["train", "val", "test", "validation"], "val"),
        (["train", "Val", "validation"], "validation"),
        (["Train", "Valid", "Test"], "Test"),
        (["train2017", "val2017", "test2017"], "val2017"),
    ],
)
def test_the_test_part_of_several(tmp_path: Path, folders: list[str], test: str) -> None:
    for folder in folders:
        classes(tmp_path / folder, "cat", "dog")
    assert {path.split("/")[0] for path, _ in read_layout(tmp_path).parts["test"]} == {test}


def test_names_that_only_begin_as_parts_do_are_classes(tmp_path: Path) -> None:
    classes(tmp_path, "trainer", "testament", "train", "valley")
    assert read_layout(tmp_path).classes == ("testament", "train", "trainer", "valley")


def test_parts_of_images_without_classes_are_no_classes(tmp_path: Path, refused: Callable[..., str]) -> None:
    for name in ("train/cat.0.png", "train/dog.0.png", "test1/0.png", "test1/1.png"):
        draw(tmp_path / "src" / name)
    assert "train has no folder in it: put the images of each class" in refused("folder", tmp_path / "src", tmp_path)


@pytest.mark.parametrize(
    ("outer", "says"),
    [
        (["first", "second"], "first has images only in folders of its own (cat, dog)"),
        (["train", "held out"], "held out has images only in folders of its own (cat, dog)"),
        (["train_zip/train", "val_zip/val"], "train_zip/train has images only in folders of its own (cat, dog)"),
        (["train/birds", "val/birds", "train/beasts"], "train/beasts has images only in folders of its own (cat, dog)"),
    ],
)
def test_classes_that_hold_only_folders(
    tmp_path: Path, refused: Callable[..., str], outer: list[str], says: str
) -> None:
    for folder in outer:
        classes(tmp_path / "src" / folder, "cat", "dog")
    line = refused("folder", tmp_path / "src", tmp_path / "out")
    assert says in line
    assert "give class folders with the images in them, or train and val (or test) with such folders" in line
    assert not (tmp_path / "out").exists()


def test_a_class_may_have_folders(tmp_path: Path) -> None:
    classes(tmp_path, "cat", "cat/small", "dog/images", "emu/old", "emu")
    assert read_layout(tmp_path).classes == ("cat", "dog", "emu")


@pytest.mark.parametrize(
    "folders",
    [
        ["cat/siam", "cat/pers", "dog"],
        ["a/2019", "a/2020", "b/2019"],
        ["cat/siam", "cat/pers", "dog/poodle", "dog/husky"],
        ["cat/images", "dog/images"],
    ],
)
def test_a_class_may_hold_only_folders_where_those_of_others_differ(tmp_path: Path, folders: list[str]) -> None:
    classes(tmp_path, *folders)
    found = read_layout(tmp_path)
    assert found.classes == tuple(sorted({folder.split("/")[0] for folder in folders}))
    assert sum(len(part) for part in found.parts.values()) == 2 * len(folders)


def test_folders_in_the_classes_of_the_test_part_are_as_free_as_those_of_the_training_part(tmp_path: Path) -> None:
    classes(tmp_path / "train", "cat/a", "cat/b", "cat/c", "dog/a", "dog/b")
    classes(tmp_path / "val", "cat/a", "cat/b", "dog/a", "dog/b")
    assert read_layout(tmp_path).classes == ("cat", "dog")


def test_images_are_told_by_content_where_the_name_says_nothing(tmp_path: Path) -> None:
    classes(tmp_path, "cat", "dog")
    for name, form in (("a.jfif", "JPEG"), ("b.jpe", "JPEG"), ("c", "JPEG"), ("d.JIF", "JPEG"), ("e", "TIFF")):
        draw(tmp_path / "cat" / name, form)
    found = read_layout(tmp_path)
    names = {os.path.basename(path) for part in found.parts.values() for path, _ in part}
    assert names >= {"a.jfif", "b.jpe", "c", "d.JIF", "e"}
    assert found.left_out == ()


def test_backup_copies_of_images_are_left_out_and_counted(tmp_path: Path) -> None:
    classes(tmp_path, "cat", "dog")
    for name in ("0.png.bak", "0.orig", "0.png~"):
        draw(tmp_path / "cat" / name)
    found = read_layout(tmp_path)
    assert sum(len(part) for part in found.parts.values()) == 4
    (line,) = found.left_out
    assert sorted(line.rpartition(": ")[2].split(", ")) == ["1 .bak", "1 .orig", "1 .png~"]


def test_what_is_left_out_is_counted_and_said(tmp_path: Path) -> None:
    src = tmp_path / "src"
    classes(src / "train", "cat", "dog")
    classes(src / "val", "cat", "dog")
    classes(src / "test", "cat", "dog")
    draw(src / "train" / "loose.png")
    draw(src / "train" / "cat" / ".hidden.png")
    (src / "README.md").write_text("no image, and nobody takes it for one")
    for name in ("a.txt", "b.txt", "c.XML", "d", "e.heic"):
        # the first two bytes of BMP; of PPM
        (src / "train" / "dog" / name).write_text("BMW" if name == "a.txt" else "P6 is here, P7 is not")
    os.mkfifo(src / "val" / "cat" / "pipe")
    result = CliRunner().invoke(main, ["folder", str(src), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [
        f"{src}: left out what is in no class folder: test, train/loose.png",
        f"{src}: left out files that are no BMP, GIF, JPEG, PNG, PPM, TIFF or WEBP: "
        "2 .txt, 2 without an ending, 1 .xml, 1 .heic",
    ]
    assert "train_lmdb: 4 images" in result.stdout


def test_long_lists_of_what_is_left_out_are_cut(tmp_path: Path) -> None:
    classes(tmp_path, "cat", "dog")
    for number in range(7):
        draw(tmp_path / f"{number}.png")
        (tmp_path / "cat" / f"x.{number}").write_text("")
    beside, others = read_layout(tmp_path).left_out
    assert beside.endswith("in no class folder: 0.png, 1.png, 2.png and 4 more")
    assert others.count("1 .") == 4
    assert others.endswith(", 3 others")


def test_what_cannot_be_opened_is_damaged_not_left_out(tmp_path: Path) -> None:
    classes(tmp_path, "cat", "dog")
    (tmp_path / "cat" / "dangling").symlink_to("nowhere")
    found = read_layout(tmp_path)
    assert "cat/dangling" in {path for part in found.parts.values() for path, _ in part}
