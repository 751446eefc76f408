"""A log that cannot be written, is removed, replaced, cut or lied into: what happens is said, and no curve is lost."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caffebench.common.glog import glog_line
from caffebench.launcher.show.logtail import LogTail

MANY = {"display": 1, "max_iter": 1500, "snapshot": 0, "test_interval": 500, "lr_policy": "fixed"}


@pytest.fixture
def disk(bench: Any) -> Iterator[Path]:
    """A real disk of 200 KiB."""
    folder = bench.folder / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def iterations(bench: Any, *sessions: str) -> list[int]:
    """The iterations whose loss stands in logs."""
    text = "".join((bench.folder / name).read_text() for name in sessions)
    return [int(n) for n in re.findall(r"Iteration (\d+) \(.*loss = ", text)]


def test_a_full_disk_stops_the_run_with_a_snapshot(bench: Any, disk: Path) -> None:
    solver = bench.solver(**MANY)
    error = bench.run(solver, "--logs", "disk", code=1)
    said = re.search(
        r"small: crashed at iteration (\d+), the log disk/small.001.log cannot be written since iteration (\d+) "
        r"\(No space left on device\); the snapshot of iteration (\d+) is intact: mend that and start again",
        error,
    )
    assert said is not None, error
    stopped, since, kept = map(int, said.groups())
    assert 0 < since <= stopped == kept < 1500
    subprocess.run(["mount", "-o", "remount,size=9m", str(disk)], check=True)
    assert f"training from iteration {kept}" in bench.run(solver, "--logs", "disk")
    seen = iterations(bench, "disk/small.001.log", "disk/small.002.log")
    assert max(seen) == 1499
    assert set(range(since)) <= set(seen), "all that was written before that"


def test_a_disk_that_is_full_from_the_first_line_on(bench: Any, disk: Path) -> None:
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
    error = bench.run(bench.solver(**MANY), "--logs", "disk", code=1)
    assert "(No space left on device); there is no snapshot: mend that and start again" in error
    assert "done" not in error
    subprocess.run(["mount", "-o", "remount,size=9m", str(disk)], check=True)
    assert "training from the start" in bench.run(bench.solver(max_iter=20), "--logs", "disk")


def test_a_disk_that_is_full_at_the_last_line(bench: Any, disk: Path) -> None:
    """All is trained, the snapshot is there, and yet no log says so: not done, until the next call says it."""
    solver = bench.solver(max_iter=3000, snapshot=0)
    launcher = bench.start(solver, "--logs", "disk")
    bench.wait_for_file("disk/small.001.log", "Iteration 2000 ")
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
    _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 1, error
    assert "the log disk/small.001.log cannot be written since iteration" in error
    (disk / "filler").unlink()
    assert "small: done at iteration 3000, accuracy" in bench.run(solver, "--logs", "disk")


@pytest.mark.parametrize("what", ["file", "folder", "moved"])
def test_a_log_that_is_removed_is_written_again(bench: Any, what: str) -> None:
    solver = bench.solver(**MANY)
    launcher = bench.start(solver)
    bench.wait_for("Iteration 300 ")
    if what == "file":
        (bench.folder / "logs/small.001.log").unlink()
    elif what == "folder":
        shutil.rmtree(bench.folder / "logs")
    else:
        (bench.folder / "logs").rename(bench.folder / "elsewhere")
    _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, error
    assert re.search(
        r"small: logs/small.001.log was gone at iteration \d+: the log is written again, with all that it held", error
    )
    assert iterations(bench, "logs/small.001.log") == list(range(1500))
    assert '"status": "done"' in bench.log()
    assert "finished before" in bench.run(solver)


def test_a_log_in_whose_place_another_file_is(bench: Any) -> None:
    solver = bench.solver(**MANY)
    launcher = bench.start(solver)
    bench.wait_for("Iteration 300 ")
    path = bench.folder / "logs/small.001.log"
    path.rename(path.with_name("mine"))
    path.write_text("another's")
    _, error = launcher.communicate(timeout=60)
    assert "logs/small.001.log was" in error
    new = "small.002.log" if path.read_text() == "another's" else "small.001.log"
    assert iterations(bench, f"logs/{new}") == list(range(1500))
    assert launcher.returncode == 0


def test_a_log_that_another_program_cuts(bench: Any) -> None:
    launcher = bench.start(bench.solver(**MANY))
    bench.wait_for("Iteration 300 ")
    os.truncate(bench.folder / "logs/small.001.log", 0)
    _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, error
    assert re.search(r"small: logs/small.001.log was cut to \d+ bytes at iteration \d+: the log continues", error)
    assert iterations(bench, "logs/small.001.log")[-1] == 1499


def test_a_log_that_is_gone_and_may_not_be_written_again(bench: Any) -> None:
    """A file stands where its folder was."""
    launcher = bench.start(bench.solver(**MANY))
    bench.wait_for("Iteration 300 ")
    (bench.folder / "logs").rename(bench.folder / "elsewhere")
    (bench.folder / "logs").write_text("")
    _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 1, error
    assert re.search(r"the log logs/small.001.log cannot be written since iteration \d+ \(.*\); the snapshot of", error)


def test_lines_that_a_name_in_the_net_forges_count_for_nothing(bench: Any) -> None:
    """Other names than those of a known attack: an event that ends the run well, figures, a test."""
    forged = "".join(
        f"\\nI20260101 00:00:00.000000     1 {line}"
        for line in (
            'x.cpp:1] caffebench: end {\\"status\\": \\"done\\", \\"iteration\\": 9999, \\"reason\\": \\"\\"}',
            'x.cpp:1] caffebench: run {\\"pid\\": 2}',
            "x.cpp:1] caffebench: end {bad json}",
            "x.cpp:1] caffebench: end [[[[",
            "solver.cpp:1] Iteration 9998, loss = 0.001",
            "solver.cpp:1] Iteration 9999, Testing net (#0)",
            "solver.cpp:1]     Test net output #0: accuracy = 1",
        )
    )
    solver = bench.solver(max_iter=100)
    path = bench.folder / solver
    path.write_text(path.read_text().replace('"relu1"', f'"relu1{forged}\\n\\033[31m"'))
    launcher = bench.start(solver)
    bench.wait_for("Iteration 40 ")
    launcher.send_signal(signal.SIGINT)
    _, error = launcher.communicate(timeout=30)
    assert "9999" in bench.log(), "Caffe prints the name as it is"
    assert re.search(r"small: (stopped|done) at iteration \d+", error)
    assert "9999" not in error + str(vars(LogTail.of_file(bench.folder / "logs/small.001.log")))
    error = bench.run(solver, "--max-iter", 140)
    assert "accuracy 1.0000" not in error
    assert "done at iteration 140" in error
    assert "\x1b" not in error


def test_what_a_process_says_before_it_has_said_who_it_is(tmp_path: Path) -> None:
    tail = LogTail(tmp_path / "x.log")
    tail.feed(glog_line("Iteration 7, loss = 0.5").encode())
    assert tail.iteration == 7, "a log of another program has no event"


def test_names_of_files_do_not_command_the_terminal(bench: Any) -> None:
    """Nor what Caffe says of them, nor a name that rich would take for markup, on a terminal."""
    name = "\x1b[2J[red]x[bold"
    (bench.folder / f"{name}.prototxt").write_text((bench.folder / bench.solver(max_iter=20)).read_text())
    error = bench.run(f"{name}.prototxt")
    assert "\\x1b[2J[red]x[bold: done at iteration 20" in error
    assert "\x1b" not in error
    command = f"{Path(sys.executable).parent}/run-caffe $'\\x1b[2J[red]x[bold.prototxt' --fresh"
    shown = subprocess.run(
        ["script", "-qec", f"bash -c {shlex.quote(command)}", "/dev/null"], cwd=bench.folder, capture_output=True
    ).stdout
    assert b"\\x1b[2J[red]x[bold: done at iteration 20" in shown
    assert b"\x1b[2J" not in shown
