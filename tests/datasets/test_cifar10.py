"""make-lmdb cifar10: both published versions give the same records, and nothing else is taken for them."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner

from caffebench.datasets.cli import main

RANDOM = np.random.RandomState(4)
NAMES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
IMAGES = {name: RANDOM.randint(0, 256, (7, 3072)).astype(np.uint8) for name in NAMES}
LABELS = {name: RANDOM.randint(0, 10, 7) for name in NAMES}


class Python2Pickler(pickle._Pickler):  # type: ignore[misc]
    """Pickles as the published files were pickled: by Python 2, whose strings are bytes."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, value: str | bytes) -> None:
        content = value.encode("ascii") if isinstance(value, str) else value
        head = b"U" + bytes([len(content)]) if len(content) < 256 else b"T" + struct.pack("<i", len(content))
        self.write(head + content)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(value: object) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def python_version() -> dict[str, bytes]:
    files = {
        name: python2_pickle({"data": IMAGES[name], "labels": LABELS[name].tolist(), "batch_label": name})
        for name in NAMES
    }
    return {**files, "batches.meta": python2_pickle({"num_vis": 3072}), "readme.html": b"<html>"}


def binary_version() -> dict[str, bytes]:
    files = {
        f"{name}.bin": np.hstack([LABELS[name].astype(np.uint8)[:, np.newaxis], IMAGES[name]]).tobytes()
        for name in NAMES
    }
    return {**files, "batches.meta.txt": b"airplane\n", "readme.html": b"<html>"}


def unpacked(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def packed(path: Path, files: dict[str, bytes], inner: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        folder = tarfile.TarInfo(inner)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(f"{inner}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


PYTHON, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
FORMS: dict[str, Callable[[Path], Path]] = {
    "python, packed": lambda at: packed(at / "cifar-10-python.tar.gz", python_version(), PYTHON),
    "python, unpacked": lambda at: unpacked(at / PYTHON, python_version()),
    "binary, packed": lambda at: packed(at / "cifar-10-binary.tar.gz", binary_version(), BINARY),
    "binary, unpacked": lambda at: unpacked(at / "renamed", binary_version()),
    "folder around": lambda at: unpacked(at / "downloads" / PYTHON, python_version()).parent,
    "folder with archive": lambda at: packed(at / "dl" / "cifar-10-binary.tar.gz", binary_version(), BINARY).parent,
}


@pytest.mark.caffe
@pytest.mark.parametrize("form", FORMS)
def test_caffe_reads_what_was_published(tmp_path: Path, read_by_caffe: Callable[..., Any], form: str) -> None:
    src = FORMS[form](tmp_path / "src")
    result = CliRunner().invoke(main, ["cifar10", str(src), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    expected = {"train_lmdb": NAMES[:5], "test_lmdb": NAMES[5:]}
    for lmdb, batches in expected.items():
        images = np.concatenate([IMAGES[name] for name in batches]).reshape(-1, 3, 32, 32)
        data, labels = read_by_caffe(tmp_path / "out" / lmdb, len(images))
        np.testing.assert_array_equal(data, images)
        np.testing.assert_array_equal(labels, np.concatenate([LABELS[name] for name in batches]))
        means = ", ".join(f"{mean:.2f}" for mean in images.mean(axis=(0, 2, 3)))
        line = f"{tmp_path}/out/{lmdb}: {len(images)} images, 10 classes, 3 x 32 x 32, channel means {means} (RGB)"
        assert line in result.stdout.splitlines()
    assert (tmp_path / "out" / "labels.txt").read_text().split()[3] == "cat"


def test_both_versions_are_the_same_data(tmp_path: Path) -> None:
    for form in ("python, packed", "binary, unpacked"):
        src = FORMS[form](tmp_path / form.split(",")[0])
        result = CliRunner().invoke(main, ["cifar10", str(src), str(tmp_path / "out")])
        assert result.exit_code == 0, result.output
    assert result.stdout.count("already complete") == 2


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run by a data file",))


BATCH = {"data": IMAGES["data_batch_1"], "labels": LABELS["data_batch_1"].tolist()}
# As published, but for one thing.
BROKEN = {
    "not a pickle": (b"<html>404</html>", "is no batch of CIFAR-10's python version, or damaged"),
    "cut": (python2_pickle(BATCH)[:5000], "is no batch of CIFAR-10's python version, or damaged"),
    "empty": (b"", "is no batch of CIFAR-10's python version, or damaged"),
    "CIFAR-100": (
        python2_pickle({"data": BATCH["data"], "fine_labels": BATCH["labels"]}),
        "is no batch of CIFAR-10's python version",
    ),
    "other size": (
        python2_pickle({**BATCH, "data": BATCH["data"][:, :100]}),
        "is no batch of CIFAR-10: uint8 (7, 100)",
    ),
    "label 10": (python2_pickle({**BATCH, "labels": [10] * 7}), "label 10, where 9 is the highest"),
    "a program": (pickle.dumps(Evil(), protocol=2), "would not call __builtin__.print"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_batch_that_is_something_else(
    tmp_path: Path, refused: Callable[..., str], capfd: pytest.CaptureFixture[str], what: str
) -> None:
    content, says = BROKEN[what]
    src = unpacked(tmp_path / "src", {**python_version(), "data_batch_3": content})
    line = refused("cifar10", src, tmp_path / "out")
    assert says in line
    assert not (tmp_path / "out").exists()
    assert "run by a data file" not in capfd.readouterr().out


def test_binary_batch_of_an_odd_length(tmp_path: Path, refused: Callable[..., str]) -> None:
    src = unpacked(tmp_path / "src", {**binary_version(), "data_batch_2.bin": bytes(3072)})
    line = refused("cifar10", src, tmp_path / "out")
    assert line == f"data_batch_2.bin in {src} is damaged: 3072 bytes are no multiple of 3073"


def test_missing_batches_are_named(tmp_path: Path, refused: Callable[..., str]) -> None:
    files = {name: content for name, content in binary_version().items() if name not in ("data_batch_4.bin",)}
    src = unpacked(tmp_path / "src", files)
    assert f"{src} lacks data_batch_4.bin: give cifar-10-python.tar.gz" in refused("cifar10", src, tmp_path / "out")


def test_sources_that_are_nothing_of_the_kind(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "is not there" in refused("cifar10", tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "lacks data_batch_1, data_batch_2" in refused("cifar10", tmp_path / "empty", tmp_path / "out")
    whole = packed(tmp_path / "cifar-10-python.tar.gz", python_version(), PYTHON).read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2], gzip.compress(b"no archive")):
        (tmp_path / "bad.tar.gz").write_bytes(content)
        assert "is damaged or no tar archive" in refused("cifar10", tmp_path / "bad.tar.gz", tmp_path / "out")
