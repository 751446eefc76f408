"""write_whole: the whole new file or the old one, and nothing beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from caffebench.common.files import write_whole


def test_text_and_bytes_into_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b" / "x.txt", "μ\n")
    assert (tmp_path / "a" / "b" / "x.txt").read_bytes() == b"\xce\xbc\n"
    write_whole(tmp_path / "a" / "b" / "x.txt", b"\xff")
    assert (tmp_path / "a" / "b" / "x.txt").read_bytes() == b"\xff"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["x.txt"]


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="Is a directory") as caught:
        write_whole(tmp_path / "x", "new")
    assert caught.value.filename == str(tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(OSError, match=str(tmp_path / "x")):
        write_whole(tmp_path / "x" / "y", "new")
    assert (tmp_path / "x").read_text() == "old"


def test_content_that_cannot_be_encoded_leaves_the_old(tmp_path: Path) -> None:
    write_whole(tmp_path / "x", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "x", "\udc80")
    assert (tmp_path / "x").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small disk that this fills")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]).returncode:
        pytest.skip("this root may not mount the small disk that this fills")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_full_disk_keeps_the_old_and_names_the_file(small_disk: Path) -> None:
    path = small_disk / "x"
    write_whole(path, "old")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(path, b"n" * 100_000)
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert [one.name for one in small_disk.iterdir()] == ["x"]


def test_no_reader_ever_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "x"
    contents = [bytes([letter]) * 300_000 for letter in b"ab"]
    write_whole(path, contents[0])
    done = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        write_whole(path, contents[number % 2])
    done.set()
    reader.join()
    assert seen <= set(contents)
    assert seen


def test_killed_while_writing_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "x"
    code = (
        "import sys; from pathlib import Path; from caffebench.common.files import write_whole\n"
        "while True:\n"
        "    for letter in (b'a', b'b'): write_whole(Path(sys.argv[1]), letter * 3_000_000)"
    )
    for pause in (0.0, 0.003, 0.011):
        process = subprocess.Popen([sys.executable, "-c", code, path])
        deadline = time.monotonic() + 120
        while not path.exists():
            assert time.monotonic() < deadline
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.read_bytes() in (b"a" * 3_000_000, b"b" * 3_000_000)
