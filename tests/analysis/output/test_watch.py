"""``merge-logs --watch``: current during training, reading only what is new."""

from __future__ import annotations

import gzip
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from caffebench.analysis import read, read_runs
from caffebench.analysis.output.watch import Watcher
from caffebench.common.errors import InputError

Session = Callable[..., str]
Write = Callable[..., Path]


def _same(watcher: Watcher, folder: Path) -> None:
    runs = watcher.update()
    assert runs is not None
    fresh = read_runs([folder])
    assert_frame_equal(pl.concat([run.curves for run in runs]), pl.concat([run.curves for run in fresh]))
    told = [(run.name, run.status, run.reason, run.crashes, run.lost_iterations, run.seconds) for run in runs]
    assert told == [(run.name, run.status, run.reason, run.crashes, run.lost_iterations, run.seconds) for run in fresh]


def test_each_look_is_what_a_whole_reading_gives(make_session: Session, write: Write) -> None:
    # Cut anywhere, over New Year, in two parts.
    parts = [
        make_session(0, 900, at=datetime(2015, 12, 31, 23, 55)),
        make_session(850, 2000, resume=True, pid=7, at=datetime(2016, 1, 3), end="Optimization Done."),
    ]
    other = write("other.log", make_session(0, 100))
    watcher = Watcher([other.parent])
    watcher.update()
    chance = random.Random(0)
    for number, text in enumerate(parts, 1):
        data, path = text.encode(), other.parent / f"net.{number:03}.log"
        cuts = sorted({*(chance.randrange(600, len(data)) for _ in range(6)), len(data)})
        before = 0
        for cut in cuts:
            with path.open("ab") as file:
                file.write(data[before:cut])
            before = cut
            _same(watcher, path.parent)
    assert watcher.update() is None


def test_what_cannot_be_read_is_left_out_until_it_can(make_session: Session, write: Write) -> None:
    path = write("net.log", make_session(0, 100))
    bad = path.with_name("bad.log")
    bad.symlink_to("/proc/self/mem")  # may be opened, and cannot be read, by root neither
    watcher = Watcher([path.parent])
    assert [run.name for run in watcher.update() or ()] == ["net"]
    bad.unlink()
    bad.write_text(make_session(0, 200))
    assert [run.iteration for run in watcher.update() or ()] == [200, 100]


@pytest.mark.slow
def test_only_what_is_new_is_read(make_session: Session, write: Write) -> None:
    whole = make_session(0, 200_000).encode()
    path = write("net.log", whole[: len(whole) * 3 // 4])
    watcher = Watcher([path])
    watcher.update()
    assert watcher.bytes_read == len(whole) * 3 // 4
    for first in range(len(whole) * 3 // 4, len(whole), len(whole) // 20):
        with path.open("ab") as file:
            file.write(whole[first : first + len(whole) // 20])
        assert watcher.update() is not None
        assert watcher.bytes_read == path.stat().st_size
    assert path.stat().st_size == len(whole)
    _last = watcher.update()
    assert _last is None


def test_a_log_that_is_written_anew_is_read_anew(make_session: Session, write: Write) -> None:
    path = write("net.log", make_session(0, 900))
    watcher = Watcher([path.parent])
    watcher.update()
    write("net.log", make_session(0, 300))
    _same(watcher, path.parent)
    write("net.log", make_session(0, 900, pid=7, at=datetime(2016, 4, 7), loss=lambda _: 1.5))  # and is longer by now
    _same(watcher, path.parent)
    packed = path.with_name("net2.log.gz")
    packed.write_bytes(gzip.compress(make_session(0, 200).encode()))
    _same(watcher, path.parent)
    packed.write_bytes(gzip.compress(make_session(0, 400).encode()))
    _same(watcher, path.parent)
    path.unlink()
    _same(watcher, path.parent)


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Watcher([tmp_path / "logs"]).update()


@pytest.mark.slow
def test_the_command_keeps_everything_current_until_ctrl_c(make_session: Session, write: Write, tmp_path: Path) -> None:
    text = make_session(0, 1000)
    half = text.index("Iteration 500, Testing")
    path = write("net.log", text[:half])
    out = tmp_path / "out"
    command = [str(Path(sys.executable).with_name("merge-logs")), str(path), "--out", str(out)]
    command += ["--watch", "--every", "0.2", "--html", "--plot", "--export", "parquet"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:

        def wait_for(iteration: int) -> bytes:
            for _ in range(900):
                made = out / "curves.parquet"
                if made.exists() and int(pl.read_parquet(made)["iteration"].max() or 0) == iteration:  # type: ignore[call-overload]  # max may be of any type
                    return (out / "report.html").read_bytes()
                assert child.poll() is None, child.communicate()[0]
                time.sleep(0.1)
            raise AssertionError(f"iteration {iteration} was never written")

        first = wait_for(480)
        picture = (out / "plots" / "test_accuracy.png").stat().st_mtime_ns
        with path.open("a") as file:
            file.write(text[half:])
        second = wait_for(1000)
        assert first != second
        assert re.search(rb'"reload":0\.2', second)
        assert (out / "plots" / "test_accuracy.png").stat().st_mtime_ns > picture
        assert child.stdout is not None
        said = child.stdout.readline() + child.stdout.readline()  # the second comes when all is written
        os.kill(child.pid, signal.SIGINT)
        said += child.communicate(timeout=60)[0]
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0, said
    assert said.count("1 run(s) written") == 2
    assert_frame_equal(pl.read_parquet(out / "curves.parquet"), read(path))
