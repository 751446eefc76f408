"""Rows that are put away: in memory, in a file where they are many, and what is made of them afterwards."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from polars.testing import assert_frame_equal

from caffebench.analysis import read_runs
from caffebench.analysis.read import parser as scanning
from caffebench.analysis.read import store
from caffebench.analysis.read.store import Store

ARRAYS = [np.arange(5), np.linspace(0, 1, 5), np.array([1, 2, 3, 4, 250], "u1")]


def same(found: list[Any], wanted: list[Any]) -> bool:
    return all(np.array_equal(one, two) and one.dtype == two.dtype for one, two in zip(found, wanted, strict=True))


@pytest.mark.parametrize("limit", [10**6, 0], ids=["memory", "file"])
def test_it_gives_back_what_it_took(limit: int) -> None:
    with mock.patch.object(store, "LIMIT", limit):
        kept = Store()
        numbers = [kept.put([one[k:] for one in ARRAYS]) for k in range(5)]
        for number in reversed(numbers):
            assert same(kept.get(number), [one[number:] for one in ARRAYS])
        copied = pickle.loads(pickle.dumps(kept))  # noqa: S301 - our own
        assert same(copied.get(3), [one[3:] for one in ARRAYS])


def test_the_limit_is_one_for_all_stores_and_given_back() -> None:
    size = sum(one.nbytes for one in ARRAYS)
    gc.collect()
    before = store._held[0]
    with mock.patch.object(store, "LIMIT", before + size):
        first, second = Store(), Store()
        first.put(ARRAYS)
        second.put(ARRAYS)
        assert store._held[0] == before + size
        assert first._file is None
        assert second._file is not None
        del first
        gc.collect()
        assert store._held[0] == before


@pytest.mark.parametrize("limit", [10**9, 0], ids=["memory", "file"])
def test_a_run_is_the_same_whether_its_rows_are_seen_or_put_away(
    limit: int, make_session: Callable[..., str], write: Callable[..., Path]
) -> None:
    nights = [datetime(2016, 4, day, 20) for day in (6, 7, 8)]
    texts = [
        make_session(0, 5000, at=nights[0]),
        make_session(4000, 9000, resume=True, pid=200, at=nights[1]),
        make_session(8500, 9500, resume=True, pid=300, at=nights[2]),
    ]
    path = write("net.log", *texts)
    with mock.patch.multiple(scanning, _WORTH=10**9):
        (seen,) = read_runs([path], train_size=1000)
    with (
        mock.patch.multiple(scanning, _WORTH=32, _BLOCK=16384),
        mock.patch.object(store, "LIMIT", limit),
    ):
        (hidden,) = read_runs([path], train_size=1000)
        stretches = [one for part in hidden.stitched.parts for one in part.stretches]
        assert sum(one.hidden is not None for one in stretches) > 2
        assert_frame_equal(hidden.curves, seen.curves)
        assert hidden.sessions == seen.sessions
        assert [one.lost_iterations for one in hidden.sessions[:2]] == [1000, 500]


def test_a_full_disk_is_said_in_one_line(
    tmp_path: Path, make_session: Callable[..., str], write: Callable[..., Path]
) -> None:
    """The file system is real and small, where one may be mounted; the limit on memory is lowered in the command."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        path = write("net.log", make_session(0, 200_000))
        code = (
            "from caffebench.analysis.read import parser, store\n"
            "store.LIMIT, parser._WORTH, parser._BLOCK = 0, 32, 65536\n"
            "from caffebench.analysis.cli import main\nmain()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), "--out", str(tmp_path / "out")],
            env={"TMPDIR": str(disk), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
    finally:
        subprocess.run(["umount", disk], check=True)
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert line.endswith(f"put away in {disk}: No space left on device; set TMPDIR to a folder with more room")
