"""A run is its net and solver: nothing else is ever taken for it, and several files are told apart by names."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caffebench.common.errors import InputError
from caffebench.launcher.plan.naming import parse_seeds, request_runs


def two_files(bench: Any) -> None:
    """``a/solver.prototxt`` and ``b/solver.prototxt``, each with a net of its own beside it, and the data."""
    text = (bench.folder / bench.solver(max_iter=30, snapshot=0)).read_text()
    net, solver = text[: text.index("test_iter")], text[text.index("test_iter") :]
    net = net[net.index('  name: "small"') : net.rindex("}")]
    for name, width in (("a", 8), ("b", 16)):
        folder = bench.folder / name
        folder.mkdir()
        (folder / "solver.prototxt").write_text('net: "train_val.prototxt"\n' + solver)
        (folder / "train_val.prototxt").write_text(net.replace("num_output: 8 ", f"num_output: {width} "))


def files(bench: Any, folder: str) -> set[str]:
    return {path.name for path in (bench.folder / folder).glob("*") if path.is_file() and path.name[0] != "."}


def test_two_files_of_one_name_in_two_calls(bench: Any) -> None:
    two_files(bench)
    bench.run("a/solver.prototxt")
    before = files(bench, "logs") | files(bench, "snapshots")
    line = bench.run("b/solver.prototxt", code=2).splitlines()[-1]
    assert "solver: the log logs/solver.001.log is of a/solver.prototxt, and b/solver.prototxt is another run" in line
    assert "--name '{folder}_{stem}' makes it b_solver" in line
    assert files(bench, "logs") | files(bench, "snapshots") == before
    # the snapshots alone are enough to tell
    line = bench.run("b/solver.prototxt", "--logs", "other", code=2).splitlines()[-1]
    assert "solver: the snapshot snapshots/solver_iter_30.solverstate is of a/solver.prototxt" in line
    assert "b_solver: done at iteration 30" in bench.run("b/solver.prototxt", "--name", "{folder}_{stem}")
    assert "it was finished before" in bench.run("a/solver.prototxt")


def test_and_in_one_call(bench: Any) -> None:
    two_files(bench)
    given = ("a/solver.prototxt", "b/solver.prototxt")
    line = bench.run(*given, code=2).splitlines()[-1]
    assert "are both the run solver, and would write the same files: name them with --name '{folder}_{stem}'" in line
    bench.run(*given, "--name", "{folder}_{stem}")
    assert files(bench, "logs") == {"a_solver.001.log", "b_solver.001.log"}


def test_a_run_that_died_before_its_first_snapshot_is_still_that_of_its_file(bench: Any) -> None:
    two_files(bench)
    net = bench.folder / "a/train_val.prototxt"
    net.write_text(net.read_text().replace("kernel_size: 3", "kernel_size: 30"))
    bench.run("a/solver.prototxt", code=1)
    assert "is of a/solver.prototxt" in bench.run("b/solver.prototxt", code=2)
    assert files(bench, "logs") == {"solver.001.log"}


def test_a_copy_of_the_file_is_the_same_run(bench: Any) -> None:
    bench.run(bench.solver(max_iter=20))
    (bench.folder / "moved").mkdir()
    (bench.folder / "small.prototxt").rename(bench.folder / "moved/small.prototxt")
    assert "it was finished before" in bench.run("moved/small.prototxt")
    assert "from iteration 20" in bench.run("moved/small.prototxt", "--max-iter", 40)


@pytest.mark.parametrize(
    ("values", "options", "changed"),
    [
        ({"base_lr": 0.02}, [], "base_lr: 0.01 -> 0.02"),
        ({"width": 9}, [], "num_output: 8 -> 9"),
        ({"init": "lsuv"}, [], "init: none -> lsuv"),
        ({}, ["--init", "ortho"], "init: none -> ortho"),
        ({}, ["--seed", "8"], "seed: 7 -> 8"),
        ({"max_iter": 10}, [], "max_iter: 20 -> 10"),
    ],
)
def test_a_finished_run_is_not_taken_for_what_was_changed(
    bench: Any, values: dict[str, object], options: list[str], changed: str
) -> None:
    bench.run(bench.solver(max_iter=20))
    line = bench.run(bench.solver(**{"max_iter": 20, **values}), *options, code=2).splitlines()[-1]
    assert "small was finished at iteration 20 with other settings (" in line
    assert changed in line
    assert "--fresh starts over" in line
    # without a record of its snapshot it is still noticed
    for path in (bench.folder / "snapshots").glob("small_iter_20.*"):
        path.unlink()
    assert "with other settings" in bench.run("small.prototxt", *options, code=2)


RATES = {
    "poly": {"lr_policy": "poly", "max_iter": 40},
    "cosine": {"extra": "# caffebench: lr_schedule: {policy: cosine}\n", "max_iter": 40},
}


@pytest.mark.parametrize("rates", RATES)
def test_a_finished_run_is_not_lengthened_where_its_rates_fall_to_its_end(bench: Any, rates: str) -> None:
    """Of the longer run every iteration has another rate: it would come to other weights."""
    solver = bench.solver(**RATES[rates])
    bench.run(solver, "--max-iter", 20)
    for options in ([], ["--max-iter", 30]):
        line = bench.run(solver, *options, code=2).splitlines()[-1]
        assert "small was finished at iteration 20 with other settings (max_iter: 20" in line
        assert line.count("max_iter") == 1
    assert "it was finished before" in bench.run(solver, "--max-iter", 20)
    bench.run(bench.solver(**{**RATES[rates], "max_iter": 10}), code=2)


def test_an_unfinished_run_is_lengthened_all_the_same_and_says_so(bench: Any) -> None:
    bench.run(bench.solver(lr_policy="poly", max_iter=40, snapshot=20))
    (bench.folder / "logs/small.001.log").unlink()
    for path in (bench.folder / "snapshots").glob("small_iter_40.*"):
        path.unlink()
    said = bench.run("small.prototxt", "--max-iter", 60)
    assert "small: its settings were changed since iteration 20: max_iter: 40 -> 60; training continues" in said


def test_what_makes_no_difference_is_no_other_run(bench: Any) -> None:
    bench.run(bench.solver(max_iter=20))
    again = bench.run(bench.solver(max_iter=20, display=5, test_interval=10))
    assert "it was finished before (what its file has other than then makes no difference to its weights)" in again


def test_an_unfinished_run_says_what_changed_in_its_header(bench: Any) -> None:
    bench.run(bench.solver(max_iter=20, init="ortho"))
    error = bench.run(bench.solver(max_iter=40))
    assert "small: its settings were changed since iteration 20: max_iter: 20 -> 40; init: ortho -> none" in error


def test_a_snapshot_beyond_the_end(bench: Any) -> None:
    bench.run(bench.solver(max_iter=100, snapshot=50))
    (bench.folder / "logs/small.001.log").unlink()
    line = bench.run("small.prototxt", "--max-iter", 60, code=2).splitlines()[-1]
    assert "small: snapshots/small_iter_100.solverstate is of iteration 100, and this run is to end at 60" in line


def test_names() -> None:
    a, b = Path("/x/a/solver.prototxt"), Path("/x/b/solver.prototxt")
    assert [one.run for one in request_runs([a, b], name="{folder}-{stem}")] == ["a-solver", "b-solver"]
    assert [one.run for one in request_runs([a], name="mine", seeds="2")] == ["mine_seed1", "mine_seed2"]
    for bad in ("a/b", ".hidden", "", "{file}", "x\ny"):
        with pytest.raises(InputError, match="--name"):
            request_runs([a], name=bad)
    with pytest.raises(InputError, match="give each run once"):
        request_runs([a, a])
    with pytest.raises(InputError, match="are both the run n"):
        request_runs([a, b], name="n")


def test_seeds() -> None:
    assert parse_seeds("3") == (1, 2, 3)
    assert parse_seeds("5, 7") == (5, 7)
    assert parse_seeds("7,") == (7,)
    for bad in ("", "0", "-1", "a", "1,1", "1.5", ",", "1,,2", "9999999", str(2**31) + ","):
        with pytest.raises(InputError, match="--seeds"):
            parse_seeds(bad)
    with pytest.raises(InputError, match="exclude each other"):
        request_runs([Path("a")], seed=1, seeds="2")


def test_a_run_for_each_seed(bench: Any) -> None:
    bench.run(bench.solver(max_iter=60), "--seeds", 2, "--jobs", 2)
    assert files(bench, "logs") == {"small_seed1.001.log", "small_seed2.001.log"}
    assert bench.weights(60, run="small_seed1") != bench.weights(60, run="small_seed2")
    error = bench.run("small.prototxt", "--seeds", "2,3")
    assert "small_seed2: done at iteration 60" in error
    assert "it was finished before" in error
    assert "small_seed3: training from the start" in error
    bench.run("small.prototxt", "--seed", 3, "--name", "three")
    assert bench.weights(60, run="three") == bench.weights(60, run="small_seed3")
    command = [Path(sys.executable).parent / "merge-logs", "logs", "--out", "merged"]
    subprocess.run(command, cwd=bench.folder, check=True, capture_output=True)
    with (bench.folder / "merged/summary.csv").open() as file:
        assert {row["run"] for row in csv.DictReader(file)} == {"small_seed1", "small_seed2", "small_seed3", "three"}
