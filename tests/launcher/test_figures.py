"""One figure: the terminal, the log's last test and merge-logs say the same, and it is that of the final weights."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caffebench.common.glog import glog_line
from caffebench.launcher.show.logtail import LogTail
from caffebench.launcher.show.row import Row

SLOW_TEST = 20_000
"""Batches in a test that outlasts several looks at the log."""


def edited(bench: Any, solver: Path, *changes: tuple[str, str]) -> Path:
    """The solver with some of its text replaced."""
    text = (bench.folder / solver).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (bench.folder / solver).write_text(text)
    return solver


def merged(bench: Any, run: str = "small") -> dict[str, str]:
    """The run's row of merge-logs' summary."""
    command = [Path(sys.executable).parent / "merge-logs", "logs", "--out", "merged"]
    subprocess.run(command, cwd=bench.folder, check=True, capture_output=True)
    with (bench.folder / "merged/summary.csv").open() as file:
        return next(row for row in csv.DictReader(file) if row["run"] == run)


def last_test(log: str, net: int = 0) -> tuple[int, float]:
    """Iteration and accuracy of the last test of a log."""
    tests = re.findall(rf"Iteration (\d+), Testing net \(#{net}\)(?:\n.*?)*?accuracy = (\S+)", log)
    return int(tests[-1][0]), float(tests[-1][1])


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [("test_interval: 100", "test_interval: 70")],
        [("test_interval: 100", "test_interval: 0")],
        [("test_interval: 100", "test_interval: 1000\ntest_initialization: false")],
        [("display: 20", "display: 0")],
        [("test_iter: 7", f"test_iter: {SLOW_TEST}")],
    ],
    ids=["divides", "does not divide", "never", "not at the start either", "no display", "a long test"],
)
def test_one_figure_of_the_final_weights(bench: Any, changes: list[tuple[str, str]]) -> None:
    error = bench.run(edited(bench, bench.solver(max_iter=200), *changes))
    found = re.search(r"small: done at iteration 200, accuracy (\S+)", error)
    assert found is not None, error
    assert last_test(bench.log()) == (200, pytest.approx(float(found[1]), abs=5e-5))
    row = merged(bench)
    assert (row["status"], float(row["accuracy"])) == ("done", pytest.approx(float(found[1]), abs=5e-5))
    again = bench.run("small.prototxt")
    assert f"small: done at iteration 200, accuracy {found[1]}, it was finished before" in again


def test_of_two_test_nets_the_first(bench: Any) -> None:
    solver = bench.solver(max_iter=130)
    text = (bench.folder / solver).read_text()
    net = text[text.index("net_param") + len("net_param") : text.index("\ntest_iter")]
    other = net.replace("test_lmdb", "train_lmdb")
    rest = text[text.index("\ntest_iter") :].replace("test_iter: 7", "test_iter: 7 test_iter: 28")
    (bench.folder / solver).write_text(f"train_net_param {net}\ntest_net_param {net}\ntest_net_param {other}\n{rest}")
    error = bench.run(solver)
    (at, first), (_, second) = last_test(bench.log(), 0), last_test(bench.log(), 1)
    assert first != second
    assert f"small: done at iteration {at}, accuracy {first:.4f}" in error
    assert float(merged(bench)["accuracy"]) == pytest.approx(first)


def test_after_a_resume(bench: Any) -> None:
    bench.run(bench.solver(max_iter=100, snapshot=60))
    error = bench.run("small.prototxt", "--max-iter", 130)
    at, accuracy = last_test(bench.log(2))
    assert at == 130
    assert f"small: done at iteration 130, accuracy {accuracy:.4f}" in error
    assert float(merged(bench)["accuracy"]) == pytest.approx(accuracy)


def test_not_at_a_time_limit(bench: Any) -> None:
    error = bench.run(bench.solver(max_iter=10**6, snapshot=0, test_interval=10**5), "--time-limit", "3s", code=3)
    assert "accuracy" not in error
    assert last_test(bench.log())[0] == 0


def test_without_an_accuracy_the_loss(bench: Any) -> None:
    layer = 'layer {\n    name: "accuracy" type: "Accuracy" bottom: "fc2" bottom: "label" top: "accuracy" '
    solver = edited(bench, bench.solver(max_iter=30), (f"{layer}include {{ phase: TEST }}\n  }}", ""))
    error = bench.run(solver)
    loss = re.findall(r"Test net output #0: loss = (\S+)", bench.log())[-1]
    assert f"small: done at iteration 30, test loss {float(loss):.4g}" in error


def test_our_last_test_says_what_caffes_own_says(bench: Any) -> None:
    """The same weights tested by ``Solve``, whose interval comes round, and by us, where it does not."""

    def last(interval: int, folder: str) -> list[str]:
        extra = "test_initialization: false\ntest_compute_loss: true\n"
        solver = bench.solver(max_iter=100, test_interval=interval, init="lsuv", extra=extra)
        bench.run(solver, "--logs", folder, "--snapshots", folder)
        log = (bench.folder / folder / "small.001.log").read_text()
        lines = [line.partition("] ")[2] for line in log[log.index("Testing net") - 100 :].splitlines()]
        return [line for line in lines if line.startswith(("Iteration 100, T", "Test loss", "    Test net"))]

    caffes, ours = last(100, "caffes"), last(1000, "ours")
    assert len(caffes) == 4
    assert caffes == ours


def test_the_row_of_a_run_takes_over_what_a_test_says_late(tmp_path: Path) -> None:
    """A test's figures come long after the line that names its iteration."""
    tail, row = LogTail(tmp_path / "x.001.log"), Row("x", 100)
    tail.feed(glog_line("Iteration 100, Testing net (#0)").encode())
    row.update(tail, 1.0)
    assert row.accuracy is None
    tail.feed(glog_line("    Test net output #0: accuracy = 0.75").encode())
    row.update(tail, 2.0)
    assert row.accuracy == 0.75
    # and the one before is shown while the next is running
    tail.feed(glog_line("Iteration 200, Testing net (#0)").encode())
    assert tail.accuracy == 0.75


def test_outputs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    log = tmp_path / "x.001.log"
    lines = ["Iteration 9, Testing net (#0)", "    Test net output #0: accuracy = 0.5"]
    lines += [f"    Test net output #{n + 1}: per_class = {n / 4}" for n in range(4)]
    log.write_text("".join(map(glog_line, lines)))
    tail = LogTail.of_file(log)
    assert (tail.accuracy, tail.test_loss) == (0.5, None)
