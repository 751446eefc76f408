"""make-lmdb folder: layouts, order, stop and resume, damaged images, and Caffe's Data layer as the judge."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Pillow

from caffebench.common.errors import InputError, StoppedError
from caffebench.datasets.cli import main
from caffebench.datasets.datum import read_record
from caffebench.datasets.folder import Advance, make_images
from caffebench.datasets.images import ImageOptions
from caffebench.datasets.layout import read_layout
from caffebench.engine.features import caffe_has_opencv

MAKE_LMDB = [sys.executable, "-c", "from caffebench.datasets.cli import main; main()"]


def draw(path: Path, size: tuple[int, int] = (12, 10)) -> None:
    """A PNG of noise that only its name decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(sum(path.name.encode())).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Pillow.fromarray(pixels).save(path)


def zoo(folder: Path, each: int = 10, classes: str = "cat dog emu") -> Path:
    for name in classes.split():
        for number in range(each):
            draw(folder / name / f"{name}{number:04d}.png")
    return folder


def run(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(main, ["folder", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.caffe
def test_caffe_reads_the_images_of_every_class(
    tmp_path: Path,
    read_by_caffe: Callable[..., Any],
    records: Callable[[Path], dict[bytes, bytes]],
) -> None:
    src = zoo(tmp_path / "src")
    result = run(src, tmp_path / "out")
    labels_file = (tmp_path / "out" / "labels.txt").read_text().splitlines()
    assert labels_file == ["cat", "dog", "emu"]
    seen = []
    for part, count in (("train", 27), ("test", 3)):
        lmdb_path = tmp_path / "out" / f"{part}_lmdb"
        data, labels = read_by_caffe(lmdb_path, count)
        names = [key.decode().partition("_")[2] for key in records(lmdb_path)]
        seen += names
        for name, pixels, label in zip(names, data, labels, strict=True):
            expected = np.asarray(Pillow.open(src / name))[..., ::-1].transpose(2, 0, 1)
            np.testing.assert_array_equal(pixels, expected)
            assert labels_file[int(label)] == Path(name).parent.name
        means = ", ".join(f"{mean:.2f}" for mean in data.mean(axis=(0, 2, 3), dtype=np.float64))
        line = f"{lmdb_path}: {count} images, 3 classes, 3 x 10 x 12, channel means {means} (BGR)"
        assert line in result.stdout.splitlines()
    assert sorted(seen) == sorted(str(path.relative_to(src)) for path in src.glob("*/*"))


@pytest.mark.caffe
def test_caffe_crops_images_of_different_sizes(tmp_path: Path, read_by_caffe: Callable[..., Any]) -> None:
    for number, size in enumerate([(40, 30), (30, 50), (33, 33), (80, 20)] * 2):
        draw(tmp_path / "src" / f"c{number % 2}" / f"{number}.png", size)
    result = run(tmp_path / "src", tmp_path / "out", "--small-side", "16")
    assert "6 images, 2 classes, 3 x 16 x 16 to 3 x 27 x 64" in result.stdout
    data, _ = read_by_caffe(tmp_path / "out" / "train_lmdb", 6, "crop_size: 14")
    assert data.shape == (6, 3, 14, 14)
    assert (data.std(axis=(1, 2, 3)) > 10).all()


def test_split_is_stratified_and_the_seed_decides(tmp_path: Path) -> None:
    src = zoo(tmp_path / "src", each=20)
    first = read_layout(src, test_share=0.25, seed=1)
    assert np.bincount([label for _, label in first.parts["test"]]).tolist() == [5, 5, 5]
    assert not set(first.parts["train"]) & set(first.parts["test"])
    assert len(first.parts["train"]) == 45
    assert read_layout(src, test_share=0.25, seed=1) == first
    assert set(read_layout(src, test_share=0.25, seed=2).parts["test"]) != set(first.parts["test"])
    labels = [label for _, label in first.parts["train"]]
    assert labels != sorted(labels)


@pytest.mark.parametrize("name", ["val", "test", "validation"])
def test_a_source_with_two_parts(tmp_path: Path, name: str, records: Callable[[Path], dict[bytes, bytes]]) -> None:
    zoo(tmp_path / "src" / "train", each=4)
    zoo(tmp_path / "src" / name, each=2, classes="cat emu")  # not every class has to be tested
    (tmp_path / "src" / "train" / "cat" / "notes.txt").write_text("no image")
    draw(tmp_path / "src" / "train" / "cat" / "more" / "deeper.png")
    draw(tmp_path / "src" / "train" / ".cache" / "x.png")
    run(tmp_path / "src", tmp_path / "out")
    train, test = (records(tmp_path / "out" / f"{part}_lmdb") for part in ("train", "test"))
    assert len(train) == 13
    found = {key.decode()[9:]: read_record(value)[1] for key, value in test.items()}
    assert found == {f"{name}/{c}/{c}000{i}.png": label for c, label in (("cat", 0), ("emu", 2)) for i in range(2)}


def test_imagenets_form_with_caffes_list(tmp_path: Path, records: Callable[[Path], dict[bytes, bytes]]) -> None:
    zoo(tmp_path / "src" / "train", each=2, classes="n01 n02 n03")
    for number in range(3):
        draw(tmp_path / "src" / "val" / f"ILSVRC2012_val_{number}.png")
    listed = tmp_path / "src" / "val.txt"
    listed.write_text("ILSVRC2012_val_0.png 2\nILSVRC2012_val_1.png 0\nILSVRC2012_val_2.png 2\n")
    run(tmp_path / "src", tmp_path / "out")
    test = records(tmp_path / "out" / "test_lmdb")
    assert {key.decode()[-5]: read_record(value)[1] for key, value in test.items()} == {"0": 2, "1": 0, "2": 2}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ILSVRC2012_val_0.png 3", "line 2 is no 'path label' with a label from 0 to 2"),
        ("ILSVRC2012_val_0.png", "line 2 is no 'path label'"),
        ("ILSVRC2012_val_0.png -1", "line 2 is no 'path label'"),
        ("ILSVRC2012_val_7.png 1", "ILSVRC2012_val_7.png is not there"),
    ],
)
def test_a_list_that_does_not_fit(tmp_path: Path, refused: Callable[..., str], line: str, says: str) -> None:
    zoo(tmp_path / "src" / "train", each=2)
    draw(tmp_path / "src" / "val" / "ILSVRC2012_val_0.png")
    (tmp_path / "src" / "val.txt").write_text(f"ILSVRC2012_val_0.png 1\n{line}\n")
    assert says in refused("folder", tmp_path / "src", tmp_path / "out")


def damage(src: Path) -> dict[str, str]:
    whole = (src / "cat" / "cat0000.png").read_bytes()
    broken = {"empty.png": b"", "cut.png": whole[: len(whole) // 2], "text.jpg": b"<html>404</html>" * 50}
    for name, content in broken.items():
        (src / "dog" / name).write_bytes(content)
    return {f"dog/{name}": name for name in broken}


def test_damaged_images_are_counted_and_named(tmp_path: Path, records: Callable[[Path], dict[bytes, bytes]]) -> None:
    src = zoo(tmp_path / "src")
    broken = damage(src)
    result = run(src, tmp_path / "out")
    assert sum(int(line.split()[-2]) for line in result.stderr.splitlines() if "left out" in line) == 3
    for name in broken:
        assert f"  {name}: " in result.stderr
    stored = [key.decode()[9:] for part in ("train", "test") for key in records(tmp_path / "out" / f"{part}_lmdb")]
    assert sorted(stored) == sorted(f"{c}/{c}{i:04d}.png" for c in ("cat", "dog", "emu") for i in range(10))
    again = run(src, tmp_path / "out")
    assert again.stdout.count("already complete") == 2
    assert again.stderr == result.stderr


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_never_ends_the_work(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    src = zoo(tmp_path / "src", each=3, classes="a b")
    for number in range(60):
        form = rng.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
        path = src / "a" / f"fuzz{number}.{form.lower()}"
        Pillow.new("RGB", (40, 30), (rng.randrange(256), 7, 9)).save(path, form)
        content = bytearray(path.read_bytes())
        for _ in range(rng.choice([1, 5, 40])):
            content[rng.randrange(min(len(content), 200))] = rng.randrange(256)
        path.write_bytes(content)
    made = make_images(read_layout(src), tmp_path / "out", ImageOptions(small_side=16), jobs=2)
    assert sum(one.summary.records + len(one.summary.damaged) for one in made) == 66
    assert any(one.summary.damaged for one in made)


def test_all_images_damaged(tmp_path: Path, refused: Callable[..., str]) -> None:
    for name in ("a", "b"):
        (tmp_path / "src" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "src" / name / f"{number}.jpg").write_bytes(b"nothing")
    assert "not one of the 4 images" in refused("folder", tmp_path / "src", tmp_path / "out")
    assert not (tmp_path / "out" / "train_lmdb").exists()


def descendants(pid: int) -> set[int]:
    children: dict[int, set[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), set()).add(int(stat.parent.name))
    found, new = set(), {pid}
    while new:
        new = set().union(*(children.get(one, set()) for one in new))
        found |= new
    return found


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_goes_on(
    tmp_path: Path, how: signal.Signals, records: Callable[[Path], dict[bytes, bytes]]
) -> None:
    src = zoo(tmp_path / "src", each=1000)
    damage(src)
    command = [*MAKE_LMDB, "folder", str(src), str(tmp_path / "out"), "--small-side", "8"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    partial = tmp_path / "out" / ".train_lmdb.partial"
    journal = partial / "journal.jsonl"
    while not journal.is_file() or journal.read_text().count("\n") < 2:  # the first commit is through then
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    family = descendants(process.pid)
    assert len(family) >= 2
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    _, stderr = process.communicate(timeout=120)
    if how != signal.SIGKILL:
        assert process.returncode == 3
        assert stderr.startswith("make-lmdb: stopped with ")
        assert stderr.endswith(f" of 2703 images in {tmp_path}/out/train_lmdb: the same command resumes from there\n")
        assert stderr.count("\n") == 1
    deadline = time.monotonic() + 120
    while any(map(alive, family)):
        assert time.monotonic() < deadline, "worker processes are left behind"
        time.sleep(0.05)
    assert not (tmp_path / "out" / "train_lmdb").exists()

    with lmdb.open(str(partial), readonly=True, lock=False) as env:
        safe = env.stat()["entries"]
    steps: list[Advance] = []
    resumed = make_images(read_layout(src), tmp_path / "out", ImageOptions(small_side=8), report=steps.append)
    assert steps[0].done == safe > 0
    whole = make_images(read_layout(src), tmp_path / "whole", ImageOptions(small_side=8))
    assert [one.summary for one in resumed] == [one.summary for one in whole]
    for part in ("train", "test"):
        assert records(tmp_path / "out" / f"{part}_lmdb") == records(tmp_path / "whole" / f"{part}_lmdb")


@pytest.mark.parametrize("whole_group", [True, False])
@pytest.mark.parametrize("later", [0, 0.1])
def test_stopped_while_its_workers_start(tmp_path: Path, whole_group: bool, later: float) -> None:
    draw(tmp_path / "one.png")
    (tmp_path / "list.txt").write_text("one.png 0\none.png 1\n" * 5_000)
    command = [*MAKE_LMDB, "list", "list.txt", "out"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not any(b"forkserver" in command_line(child) for child in descendants(process.pid)):
        assert process.poll() is None, process.communicate()
    time.sleep(later)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 3
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith("make-lmdb: stopped with ")


def test_other_options_are_not_taken_for_the_same(tmp_path: Path, refused: Callable[..., str]) -> None:
    src = zoo(tmp_path / "src")
    run(src, tmp_path / "out", "--small-side", "8")
    for option in (["--small-side", "9"], ["--seed", "1", "--small-side", "8"], ["--gray", "--small-side", "8"]):
        assert "with other options" in refused("folder", src, tmp_path / "out", *option)
    draw(src / "cat" / "new.png")
    assert "was made from other data" in refused("folder", src, tmp_path / "out", "--small-side", "8")
    assert "train_lmdb: 28 images" in run(src, tmp_path / "out", "--small-side", "9", "--force").stdout


def test_the_quality_counts_where_images_are_encoded_anew(tmp_path: Path, refused: Callable[..., str]) -> None:
    src = zoo(tmp_path / "src")
    run(src, tmp_path / "kept", "--encoded", "--quality", "60")
    assert "quality" not in json.loads((tmp_path / "kept/train_lmdb/summary.json").read_text())["source"]
    assert "already complete" in run(src, tmp_path / "kept", "--encoded", "--quality", "90").stdout
    assert "with other options" in refused("folder", src, tmp_path / "kept")
    run(src, tmp_path / "anew", "--encoded", "--small-side", "8", "--quality", "60")
    assert json.loads((tmp_path / "anew/train_lmdb/summary.json").read_text())["source"]["quality"] == 60
    again = ["folder", src, tmp_path / "anew", "-q", "--encoded", "--small-side", "8"]
    assert "with other options" in refused(*again, "--quality", "90")


@pytest.mark.parametrize(("small_side", "kept"), [(None, True), (8, False)])
def test_a_half_made_one_goes_on_with_another_quality_if_that_changes_nothing(
    tmp_path: Path, small_side: int | None, kept: bool
) -> None:
    layout = read_layout(zoo(tmp_path / "src", each=30))

    def stop(at: Advance) -> None:
        if at.done >= 64:
            raise KeyboardInterrupt

    with pytest.raises(StoppedError):
        make_images(layout, tmp_path / "out", ImageOptions(small_side, encoded=True, quality=60), report=stop)
    begun: list[int] = []
    options = ImageOptions(small_side, encoded=True, quality=90)
    made = make_images(layout, tmp_path / "out", options, report=lambda at: begun.append(at.done))
    whole = make_images(layout, tmp_path / "whole", options)
    assert [one.summary for one in made] == [one.summary for one in whole]
    assert (64 in begun[:4] and 0 not in begun[:1]) == kept


@pytest.mark.caffe
def test_caffe_without_opencv_says_that_it_cannot_read_encoded_images(tmp_path: Path) -> None:
    result = run(zoo(tmp_path / "src"), tmp_path / "out", "--encoded")
    assert "read only by a Caffe with OpenCV" in result.stderr
    if caffe_has_opencv():
        pytest.skip("this Caffe was built with OpenCV: it reads them")
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(
        f"""layer {{ name: "data" type: "Data" top: "data" top: "label"
        data_param {{ source: "{tmp_path}/out/train_lmdb" batch_size: 1 backend: LMDB }} }}"""
    )
    read = subprocess.run(
        [sys.executable, "-c", f"import caffe; caffe.Net({str(prototxt)!r}, caffe.TEST)"],
        capture_output=True,
        text=True,
    )
    assert read.returncode == -signal.SIGABRT
    assert "Encoded datum requires OpenCV; compile with USE_OPENCV." in read.stderr


BAD = {
    "no such folder": (lambda src: src.rmdir(), "is no folder: give one with a folder of images for each class"),
    "a file": (lambda src: (src.rmdir(), src.write_text("x")), "is no folder"),
    "an empty folder": (lambda src: None, "has no folder in it: put the images of each class"),
    "images without classes": (lambda src: draw(src / "x.png"), "has no folder in it"),
    "one class": (lambda src: draw(src / "cat" / "x.png"), "has only one folder, cat, in it"),
    "folders without images": (
        lambda src: [(src / name).mkdir() for name in "ab"],
        "a holds no image (BMP, GIF, JPEG, PNG, PPM, TIFF or WEBP)",
    ),
    "a class of one image": (lambda src: zoo(src, each=1), "has a single image: one for training, one to test"),
    "a class that is only tested": (
        lambda src: (zoo(src / "train", each=1), zoo(src / "val", each=1, classes="cat yak")),
        "has the class yak, which the training part has not",
    ),
    "a test part without classes and list": (
        lambda src: (zoo(src / "train", each=1), draw(src / "val" / "x.png")),
        "has no class folders, nor is there a list",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_sources_of_another_kind(tmp_path: Path, refused: Callable[..., str], what: str) -> None:
    make, says = BAD[what]
    src = tmp_path / "src"
    src.mkdir()
    make(src)
    assert says in refused("folder", src, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_share_for_a_source_that_has_its_own_test_part(tmp_path: Path) -> None:
    zoo(tmp_path / "train", each=1)
    zoo(tmp_path / "val", each=1)
    with pytest.raises(InputError, match="has its own test part, val: leave --test-share out"):
        read_layout(tmp_path, test_share=0.1)


@pytest.mark.parametrize(
    "option", [["--small-side", "0"], ["--test-share", "1"], ["--quality", "101"], ["--jobs", "0"], ["--seed", "-1"]]
)
def test_values_out_of_range(tmp_path: Path, refused: Callable[..., str], option: list[str]) -> None:
    line = refused("folder", tmp_path, tmp_path / "out", *option)
    assert option[0] in line
    assert "range" in line
    assert "(see make-lmdb folder --help)" in line


@pytest.mark.slow
def test_progress_bar_on_a_terminal(tmp_path: Path) -> None:
    src = zoo(tmp_path / "src", each=20)
    command = " ".join(["make-lmdb", "folder", str(src), str(tmp_path / "out")])
    run_on_a_terminal = ["script", "-qec", f"{Path(sys.executable).parent}/{command}", "/dev/null"]
    shown = subprocess.run(run_on_a_terminal, capture_output=True, text=True, env={**os.environ, "TERM": "xterm"})
    assert shown.returncode == 0, shown.stdout
    assert "train_lmdb" in shown.stdout
    assert "54/54" in shown.stdout
    assert "54 images, 3 classes" in " ".join(shown.stdout.split())  # the line is folded at 80 columns


def test_without_pillow_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['PIL'] = None; " + MAKE_LMDB[2]
    result = subprocess.run(
        [sys.executable, "-c", code, "folder", str(tmp_path), str(tmp_path / "out")], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr == "make-lmdb: images are read with PIL: pip install caffebench[data]\n"
