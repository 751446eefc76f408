"""``--dry-run``: what would run and what it would take, measured by a few steps; nothing is written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def dry_run(bench: Any, *arguments: object, code: int = 0) -> dict[str, list[str]]:
    """The cells of the table by the name of the run; lines below the table by their first word."""
    command = [Path(sys.executable).parent / "run-caffe", *map(str, arguments), "--dry-run"]
    done = subprocess.run(command, cwd=bench.folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    rows = [re.split(r" {2,}", line) for line in done.stdout.splitlines()]
    return {row[0]: row[1:] for row in rows}


def seconds(text: str) -> float:
    """Seconds of a duration as the table writes it."""
    units = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+) (d|h|min|s)", text))


def size(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit]


def test_seeds_are_measured_once_and_what_is_measured_is_said(bench: Any) -> None:
    command = [Path(sys.executable).parent / "run-caffe", bench.solver(max_iter=20), "--seeds", "3", "--dry-run"]
    done = subprocess.run(command, cwd=bench.folder, capture_output=True, text=True, check=True)
    assert [line for line in done.stderr.splitlines() if "measuring" in line] == ["small_seed1: measuring, 1 of 3"]
    assert done.stdout.count("0 to 20") == 3


def test_what_a_run_would_take(bench: Any) -> None:
    rows = dry_run(bench, bench.solver(max_iter=100_000, snapshot=30_000, test_interval=1000))
    assert rows["run"] == ["iterations", "epochs", "images/s", "time", "memory", "snapshots"]
    where, epochs, speed, time, memory, snapshots = rows["small"]
    assert where == "0 to 100000"
    assert float(epochs) == pytest.approx(100_000 * 32 / 1437, rel=0.01)
    images_per_second = float(speed.replace(",", ""))
    assert seconds(time) >= 0.95 * 100_000 * 32 / images_per_second, "tests come on top"
    assert 2e7 < size(memory) < 2e9
    assert snapshots.startswith("4 x ")
    assert not (bench.folder / "logs").exists()
    assert not (bench.folder / "snapshots").exists()
    bench.run("small.prototxt", "--max-iter", 20)
    files = [bench.folder / f"snapshots/small_iter_20.{end}" for end in ("caffemodel", "solverstate")]
    assert size(snapshots.removeprefix("4 x ")) == pytest.approx(sum(file.stat().st_size for file in files), rel=0.1)


def test_what_is_left_and_what_is_refused(bench: Any) -> None:
    bench.run(bench.solver(max_iter=100))
    assert dry_run(bench, "small.prototxt")["small"][:1] == ["100 to 100"]
    assert "done, it was finished before" in dry_run(bench, "small.prototxt")["small"][1]
    assert dry_run(bench, "small.prototxt", "--max-iter", 300)["small"][0] == "100 to 300"
    assert dry_run(bench, "small.prototxt", "--max-iter", 300, "--fresh")["small"][0] == "0 to 300"
    bench.solver(max_iter=100, width=9)
    assert "with other settings" in dry_run(bench, "small.prototxt", code=2)["small"][1]
    broken = bench.folder / bench.solver("broken")
    broken.write_text(broken.read_text().replace("kernel_size: 3", "kernel_size: 30"))
    rows = dry_run(bench, "broken.prototxt", bench.solver("fine"), code=1)
    assert "broken cannot be measured: Check failed" in rows["broken"][1]
    assert len(rows["fine"]) == 6


def test_a_file_whose_data_are_elsewhere(bench: Any) -> None:
    """A study is planned before its data are there; phases of other batch sizes are measured each."""
    path = bench.folder / bench.solver(max_iter=1000)
    (bench.folder / "data").unlink()
    header = (
        "shape: [1, 8, 8]",
        "train_size: 1437",
        "phases: [{until: 500, batch_size: 32}, {until: 1000, batch_size: 64}]",
    )
    path.write_text("".join(f"# caffebench: {line}\n" for line in header) + path.read_text())
    rows = dry_run(bench, path.name, "--seeds", 2)
    assert float(rows["small_seed1"][1]) == pytest.approx(500 * 96 / 1437, rel=0.01)
    assert rows["small_seed1"] == rows["small_seed2"], "runs that differ in their seed alone are measured once"
    assert rows["small_seed1"][2].endswith("*")
    assert "* without loading the data, which are not here" in rows
    # where nothing says what the data would be, they are needed
    path.write_text(path.read_text().replace("# caffebench: shape: [1, 8, 8]\n", ""))
    assert "which is not there" in bench.run(path.name, "--dry-run", code=2)
