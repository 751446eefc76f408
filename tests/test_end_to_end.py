"""Sweep to prototxt to log to curve, through the commands alone, with a SIGKILL in the middle."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

TOOLS = Path(sys.executable).parent


def run(folder: Path, *command: str) -> None:
    done = subprocess.run([TOOLS / command[0], *command[1:]], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def last_iteration(log: Path) -> int:
    said = re.findall(r"Iteration (\d+) \(", log.read_text()) if log.exists() else []
    return int(said[-1]) if said else 0


@pytest.mark.caffe
def test_a_killed_run_becomes_one_curve_with_every_iteration_once(digits_root, tmp_path):
    (tmp_path / "data").symlink_to(digits_root)
    settings = ["max_iter=1200", "display=10", "test_interval=100", "snapshot=200"]
    options = [part for one in settings for part in ("--set", one)]
    run(tmp_path, "gen-prototxt", "batch_size", "--profile", "digits", "--only", "bs64", *options)

    launcher = subprocess.Popen(
        [TOOLS / "run-caffe", "prototxt/bs64.prototxt"], cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True
    )
    first = tmp_path / "logs" / "bs64.001.log"
    deadline = time.monotonic() + 120
    while last_iteration(first) < 450:
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(launcher.pid, signal.SIGKILL)  # the kernel takes the child along
    launcher.wait()
    run(tmp_path, "run-caffe", "prototxt/bs64.prototxt")
    assert (tmp_path / "logs" / "bs64.002.log").exists()
    run(tmp_path, "merge-logs", "logs", "--plot", "--table")

    results = tmp_path / "results"
    with (results / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    places = Counter((row["phase"], row["metric"], int(row["iteration"])) for row in rows)
    assert max(places.values()) == 1
    assert {at for phase, metric, at in places if (phase, metric) == ("train", "loss")} >= set(range(0, 1200, 10))
    assert {at for phase, metric, at in places if (phase, metric) == ("test", "accuracy")} == set(range(0, 1201, 100))
    seconds = [float(row["seconds"]) for row in rows if row["phase"] == "train" and row["metric"] == "loss"]
    assert seconds == sorted(seconds)
    with (results / "summary.csv").open() as file:
        (summary,) = csv.DictReader(file)
    assert (summary["run"], summary["status"], summary["iteration"]) == ("bs64", "done", "1200")
    assert (summary["sweep"], summary["sessions"], summary["crashes"]) == ("batch_size", "2", "1")
    assert 0 < int(summary["lost_iterations"]) < 200 + 100
    assert float(summary["accuracy"]) >= 0.95
    assert len(list((results / "plots").glob("*.png"))) == 4
