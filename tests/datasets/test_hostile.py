"""Archives, folders and lists of strangers: one line, exit 2 or the one image left out, nothing outside OUT."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import resource
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image as Pillow

from caffebench.datasets.cli import main

BATCHES = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
RECORD = bytes(1 + 3072)


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, content


def archive(path: Path, *strange: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, content in [*(member(f"cifar/{name}", RECORD) for name in BATCHES), *strange]:
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_is_read_however_it_is_packed(tmp_path: Path, mode: str) -> None:
    result = CliRunner().invoke(main, ["cifar10", str(archive(tmp_path / "a", mode=mode)), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "train_lmdb: 5 images" in result.stdout


@pytest.mark.parametrize(
    ("strange", "says"),
    [
        (member("cifar/a", kind=tarfile.SYMTYPE, link="b"), "'cifar/a' is a symbolic link"),
        (member("cifar/data_batch_9", kind=tarfile.LNKTYPE, link="cifar/data_batch_9"), "is a link"),
        (member("cifar/pipe", kind=tarfile.FIFOTYPE), "'cifar/pipe' is a device, a pipe"),
        (member("cifar/zero", kind=tarfile.CHRTYPE), "'cifar/zero' is a device, a pipe"),
        (member("/etc/cron.d/x", b"x"), "'/etc/cron.d/x' is a path that leaves its folder"),
        (member("cifar/../../x", b"x"), "is a path that leaves its folder"),
        (member("cifar/../../data_batch_1.bin", RECORD), "is a path that leaves its folder"),
        (member("more/data_batch_1.bin", RECORD), "one twice"),
        (member("cifar/\x1b]0;x\x07", kind=tarfile.SYMTYPE, link="b"), r"\x1b]0;x\x07"),
    ],
)
def test_what_the_published_archive_has_not(
    tmp_path: Path, refused: Callable[..., str], strange: tuple[tarfile.TarInfo, bytes], says: str
) -> None:
    path = archive(tmp_path / "cifar-10-binary.tar.gz", strange)
    line = refused("cifar10", path, tmp_path / "out")
    assert says in line
    assert "is not CIFAR-10 as published" in line
    assert line.isprintable()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_the_archive_that_was_given(tmp_path: Path, shared: Path, refused: Callable[..., str]) -> None:
    line = refused("cifar10", shared / "cases" / "hostile" / "loop.tar.gz", tmp_path / "out")
    assert "is not CIFAR-10 as published" in line
    assert not (tmp_path / "out").exists()


def bomb(path: Path, head: bytes, gigabytes: int = 3, packed: Callable[[], object] | None = None) -> Path:
    """A small file that unpacks to ``head`` and then so many gigabytes of zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = bytes(1 << 24)
    with path.open("wb") as file:
        file.write(packer.compress(head))
        for _ in range(gigabytes << 6):
            file.write(packer.compress(zeros))
        file.write(packer.flush())
    return path


def tar_head(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def in_little_memory(*arguments: object) -> tuple[int, str, float]:
    """Exit code, standard error and processor seconds of make-lmdb where 3 GB of address space are all there is."""
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "from caffebench.datasets.cli import main; main()"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.returncode, done.stderr, after.ru_utime - before.ru_utime


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "says"),
    [
        (tar_head("cifar/readme", 3 << 30), "'cifar/readme' is a file of 3,221,225,472 bytes"),
        (tar_head("cifar/data_batch_1.bin", 3 << 30), "'cifar/data_batch_1.bin' is a file of"),
        (tar_head("././@LongLink", 3 << 30, tarfile.GNUTYPE_LONGNAME), "unpacks to more than 512 MB"),
        (tar_head("x", 3 << 30, tarfile.XHDTYPE), "unpacks to more than 512 MB"),
    ],
)
def test_an_archive_that_unpacks_without_end(tmp_path: Path, head: bytes, says: str) -> None:
    path = bomb(tmp_path / "cifar-10-binary.tar.gz", head)
    assert path.stat().st_size < 20 << 20
    code, said, seconds = in_little_memory("cifar10", path, tmp_path / "out")
    assert (code, said.count("\n")) == (2, 1), said
    assert says in said
    assert seconds < 20


@pytest.mark.slow
def test_an_idx_file_that_unpacks_without_end(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for part in ("train", "t10k"):
        images = struct.pack(">BBBB3i", 0, 0, 8, 3, 2, 4, 4)
        bomb(tmp_path / "src" / f"{part}-images-idx3-ubyte.gz", images)
        labels = struct.pack(">BBBBi", 0, 0, 8, 1, 2) + b"\0\1"
        (tmp_path / "src" / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    code, said, seconds = in_little_memory("mnist", tmp_path / "src", tmp_path / "out")
    assert code == 2
    assert "announces 2 x 4 x 4 bytes, and more follow" in said
    assert seconds < 20


def laughs() -> bytes:
    nested: list[object] = [1]
    for _ in range(12):
        nested = [nested] * 12
    return pickle.dumps({b"data": nested, b"labels": [0]}, protocol=2)


@pytest.mark.parametrize(
    "batch",
    [
        laughs(),
        b"\x80\x02}q\x00r" + struct.pack("<I", 2**31 - 1) + b".",
        pickle.dumps({b"data": 1, b"labels": 2}, protocol=2),
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
        b"cos\nsystem\n(S'touch stolen'\ntR.",
    ],
)
def test_a_pickle_that_grows_or_runs_something(tmp_path: Path, batch: bytes) -> None:
    (tmp_path / "src").mkdir()
    for name in BATCHES:
        (tmp_path / "src" / name.removesuffix(".bin")).write_bytes(batch)
    code, said, seconds = in_little_memory("cifar10", tmp_path / "src", tmp_path / "out")
    assert (code, said.count("\n")) == (2, 1), said
    assert seconds < 20
    assert not list(tmp_path.rglob("stolen"))


def draw(path: Path, size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", size, (len(path.name) * 7 % 256, 50, 200)).save(path)


def animals(src: Path) -> Path:
    for name in ("cat", "dog"):
        for number in range(6):
            draw(src / name / f"{number}.png")
    return src


@pytest.mark.parametrize("link", ["cat/again -> .", "cat/up -> ..", "cat/deep/up -> ../..", "emu -> cat"])
def test_links_that_lead_back(tmp_path: Path, refused: Callable[..., str], link: str) -> None:
    src = animals(tmp_path / "src")
    name, target = link.split(" -> ")
    (src / name).parent.mkdir(exist_ok=True)
    (src / name).symlink_to(target)
    assert "again: remove the link that leads to it" in refused("folder", src, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_files_that_are_no_images_to_be_read_are_left_out_and_named(tmp_path: Path) -> None:
    src = animals(tmp_path / "src")
    os.mkfifo(src / "cat" / "pipe.jpg")
    (src / "cat" / "device.jpg").symlink_to("/dev/zero")
    (src / "cat" / "dangling.jpg").symlink_to("nowhere.jpg")
    (src / "cat" / "loop.jpg").symlink_to("loop.jpg")
    (src / "cat" / "huge.png").write_bytes(png_of(60_000, 60_000))
    draw(src / "cat" / "thin.png", (20_000, 1))
    (src / "cat" / "script.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) run\n%%EOF\n")
    with (src / "cat" / "sparse.jpg").open("wb") as file:
        file.truncate(1 << 40)
    (src / "cat" / "turned\x1b[31m\udcff.jpg").write_bytes(b"no image")
    start = time.monotonic()
    command = [Path(sys.executable).parent / "make-lmdb", "folder", src, tmp_path / "out", "--small-side", "200"]
    done = subprocess.run([*map(str, command), "--jobs", "1"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 100
    damaged = {}
    for part in ("train", "test"):
        summary = json.loads((tmp_path / "out" / f"{part}_lmdb" / "summary.json").read_text())
        damaged |= dict(line.split(": ", 1) for line in summary["damaged"])
    assert set(damaged) == {
        *(f"cat/{name}" for name in ("pipe.jpg", "device.jpg", "dangling.jpg", "loop.jpg", "huge.png", "thin.png")),
        *(f"cat/{name}" for name in ("script.jpg", "sparse.jpg", "turned\x1b[31m\udcff.jpg")),
    }
    assert "no regular file" in damaged["cat/pipe.jpg"]
    assert "no regular file" in damaged["cat/device.jpg"]
    assert "20000 x 1 pixels would become 4000000 x 200" in damaged["cat/thin.png"]
    assert "decompression bomb" in damaged["cat/huge.png"]
    assert "larger than 1024 MB" in damaged["cat/sparse.jpg"]
    assert "\x1b" not in done.stderr + done.stdout


def test_sources_that_are_neither_file_nor_folder(tmp_path: Path, refused: Callable[..., str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for kind in ("cifar10", "mnist", "folder"):
        assert "pipe" in refused(kind, tmp_path / "pipe", tmp_path / "out")
    assert "is no regular file" in refused("list", tmp_path / "pipe", tmp_path / "out")
    assert "is no regular file" in refused("list", "/dev/zero", tmp_path / "out")


def test_packers_are_told_by_content() -> None:
    from caffebench.datasets.bounded import BoundedStream

    for packed in (b"plain", gzip.compress(b"plain"), bz2.compress(b"plain"), lzma.compress(b"plain")):
        assert BoundedStream(io.BytesIO(packed), "x", 10).read(10) == b"plain"
