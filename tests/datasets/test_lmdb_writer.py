"""Half an LMDB is never taken for a whole one, and what was written once is not written again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffebench.common.errors import CaffebenchError, InputError
from caffebench.datasets import lmdb_writer
from caffebench.datasets.datum import Record, raw_record
from caffebench.datasets.lmdb_writer import LmdbWriter, Summary, finished

SOURCE = {"kind": "noise"}


def noise(count: int, side: int = 4) -> list[Record]:
    images = np.random.RandomState(count).randint(0, 256, (count, 3, side, side)).astype(np.uint8)
    return [raw_record(image, label % 10) for label, image in enumerate(images)]


def write(target: Path, wanted: list[Record], stop_before: int | None = None) -> Summary | None:
    """Put what is not done yet; stop as Ctrl-C does when ``stop_before`` is reached."""
    try:
        with LmdbWriter(target, SOURCE) as writer:
            for position, record in enumerate(wanted):
                if position == stop_before:
                    raise KeyboardInterrupt
                if position not in writer.done:
                    writer.put(position, record, name=f"{position}.png")
            return writer.finish()
    except KeyboardInterrupt:
        return None


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(stops=st.lists(st.integers(0, 39), max_size=4), commit=st.integers(1, 50))
def test_however_often_it_is_stopped_the_result_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int], commit: int
) -> None:
    wanted = noise(40)
    folder = tmp_path_factory.mktemp("lmdb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lmdb_writer, "_COMMIT_RECORDS", commit)
        for stop in stops:
            assert write(folder / "a", wanted, stop) is None
            assert not (folder / "a").exists()
        summary = write(folder / "a", wanted)
    assert summary == write(folder / "b", wanted)
    assert summary == finished(folder / "a", SOURCE)
    assert sorted(path.name for path in (folder / "a").iterdir()) == ["data.mdb", "lock.mdb", "summary.json"]
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_summary_is_that_of_the_pixels(tmp_path: Path, records: Callable[[Path], dict[bytes, bytes]]) -> None:
    images = [np.full((2, 3, 4), 10, np.uint8), np.full((2, 5, 3), 20, np.uint8)]
    images[1][1] = 40
    summary = write(tmp_path / "x", [raw_record(image, 0) for image in images])
    assert summary is not None
    assert (summary.records, summary.smallest, summary.largest) == (2, (2, 3, 3), (2, 5, 4))
    # over pixels, not over images: 12 of the first, 15 of the second
    assert summary.means == (round((12 * 10 + 15 * 20) / 27, 4), round((12 * 10 + 15 * 40) / 27, 4))
    assert list(records(tmp_path / "x")) == [b"00000000_0.png", b"00000001_1.png"]


def test_stopped_with_a_line_of_the_journal_half_written(tmp_path: Path) -> None:
    wanted = noise(20)
    assert write(tmp_path / "x", wanted, 12) is None
    with (tmp_path / ".x.partial" / "journal.jsonl").open("a") as journal:
        journal.write('\n{"records": 15, "pix')
    with LmdbWriter(tmp_path / "x", SOURCE) as writer:
        assert writer.done == frozenset(range(12))
    assert write(tmp_path / "x", wanted) == write(tmp_path / "y", wanted)


def test_records_that_no_journal_knows_are_made_again(tmp_path: Path) -> None:
    wanted = noise(20)
    assert write(tmp_path / "x", wanted, 12) is None
    (tmp_path / ".x.partial" / "journal.jsonl").write_text("")
    with LmdbWriter(tmp_path / "x", SOURCE) as writer:
        assert not writer.done
    assert write(tmp_path / "x", wanted) == write(tmp_path / "y", wanted)


def test_other_options_do_not_go_on_with_what_is_there(tmp_path: Path) -> None:
    assert write(tmp_path / "x", noise(20), 12) is None
    with LmdbWriter(tmp_path / "x", {"kind": "other"}) as writer:
        assert not writer.done


def test_no_record_no_lmdb(tmp_path: Path) -> None:
    with pytest.raises(CaffebenchError, match="no image"):
        write(tmp_path / "x", [])
    assert not (tmp_path / "x").exists()


def test_two_writers_on_one_target(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "x", SOURCE) as writer:
        writer.put(0, noise(1)[0])
        with pytest.raises(InputError, match=f"another make-lmdb is writing {tmp_path}/x"):
            LmdbWriter(tmp_path / "x", SOURCE)
        assert writer.finish().records == 1


def test_map_grows_with_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: Callable[[Path], dict[bytes, bytes]]
) -> None:
    monkeypatch.setattr(lmdb_writer, "_FIRST_MAP", 1 << 16)
    wanted = noise(50, side=128)  # 2.4 MB in a single commit
    assert write(tmp_path / "x", wanted) is not None
    assert list(records(tmp_path / "x").values()) == [record.data for record in wanted]


def test_a_key_longer_than_lmdb_takes(tmp_path: Path, records: Callable[[Path], dict[bytes, bytes]]) -> None:
    with LmdbWriter(tmp_path / "x", SOURCE) as writer:
        for position, record in enumerate(noise(2)):
            writer.put(position, record, name="d" * 600)
        assert writer.finish().records == 2
    assert [key[:9] for key in records(tmp_path / "x")] == [b"00000000_", b"00000001_"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small disk that this fills")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]).returncode:
        pytest.skip("this root may not mount the small disk that this fills")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_full_disk_keeps_what_is_safe(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_writer, "_COMMIT_RECORDS", 10)
    wanted = noise(60, side=128)  # 2.9 MB
    with pytest.raises(CaffebenchError) as caught:
        write(small_disk / "x", wanted)
    assert str(caught.value) == (
        f"cannot write {small_disk}/x any further, no space left on the disk: 30 images are safe, "
        "and the same command resumes from there"
    )
    assert caught.value.exit_code == 1
    assert not (small_disk / "x").exists()
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    with LmdbWriter(small_disk / "x", SOURCE) as writer:
        assert writer.done == frozenset(range(30))
    summary = write(small_disk / "x", wanted)
    assert summary is not None
    assert summary == write(small_disk / "y", wanted)


def test_damaged_summary_is_not_believed(tmp_path: Path) -> None:
    write(tmp_path / "x", noise(3))
    path = tmp_path / "x" / "summary.json"
    for content in ["", "[]", "{}", json.dumps({**json.loads(path.read_text()), "more": 1})]:
        path.write_text(content)
        with pytest.raises(InputError, match="was not made by make-lmdb"):
            finished(tmp_path / "x", SOURCE)
