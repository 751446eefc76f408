"""Logs after other people's reports and questions (``cases/``), each with the right reading."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import in_process
import pytest

from caffebench.analysis import Run, read_runs

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Right:
    """What must be read from a log; None is not looked at."""

    status: str | None = None
    iteration: int | None = None
    sessions: int = 1
    crashes: int = 0
    accuracy: float | None = None
    loss: float | None = None
    seconds: float | None = None
    bad_lines: int | None = 0
    shown: tuple[int, ...] | None = None
    """Iterations of the train loss."""
    reason: str = ""
    """Part of the reason, in lower case."""
    more: Callable[[Run], object] = bool


def values(run: Run, metric: str, phase: str = "test", net: int = 0) -> list[tuple[int, float]]:
    rows = run.curve(metric, phase, net)
    return list(zip(rows["iteration"].to_list(), rows["value"].to_list(), strict=True))


RIGHT = {
    "01-nvcaffe017-epochs": Right(iteration=1200, accuracy=0.08, shown=(0, 900, 1000, 1100, 1200)),
    "02-start-before-solver": Right("done", 200),
    "03-nvcaffe-gpu-threads": Right(
        "done", 200, accuracy=0.001, more=lambda run: run.curve("loss", "train")["lr"].to_list()[:2] == [0.2, 0.1]
    ),
    "04-caffe-2014-spring": Right("done", 5000, accuracy=0.7533, loss=0.739837, shown=(100, 600)),
    "05-minus-nan": Right("not_converged", 200),
    "06-msvc-nan": Right("not_converged", 300, shown=(0, 100, 200, 300)),
    "07-segnet-classes": Right(iteration=120, accuracy=0.595, loss=1.545),
    "08-ssd-map": Right(
        "done", 20_020, accuracy=0.605, more=lambda run: values(run, "class1") == [(20_000, 0.61), (20_020, 0.71)]
    ),
    "09-py-faster-rcnn": Right("done", 80, reason="done solving", shown=(0, 20, 40, 60)),
    "12-multistep": Right(
        "stopped",
        20_000,
        accuracy=0.5,
        more=lambda run: run.curve("loss", "train")["lr"].to_list()[:2] == [0.01, 0.01],
    ),
    "14-utf16-powershell": Right("done", 1000, accuracy=0.2, shown=tuple(range(0, 1001, 100))),
    "16-kubectl-timestamps": Right("done", 1000, accuracy=0.2, seconds=101.2, shown=tuple(range(0, 1001, 100))),
    "22-indented": Right("done", 1000, accuracy=0.2, seconds=101.2, shown=tuple(range(0, 1001, 100))),
    "27-two-test-nets": Right(accuracy=0.3, more=lambda run: values(run, "accuracy", net=1) == [(0, 0.2), (200, 0.4)]),
    "28-caffe-test": Right(accuracy=0.91, loss=0.11, reason="test"),
    "36-miniglog": Right("not_converged", 2, seconds=305.0, shown=(0, 1, 2)),
    "41-cut-at-the-end": Right("stopped", 1000, accuracy=0.2, bad_lines=None),
    "45-killed": Right(iteration=300, crashes=1, reason="killed"),
    "50-intel-ranks-shuffled": Right(
        iteration=500,
        accuracy=0.5,
        more=lambda run: (
            values(run, "loss", "train") == [(0, 3.0), (100, 2.8), (200, 2.6), (300, 2.4), (400, 2.2), (500, 2.0)]
        ),
    ),
    "55-new-year": Right("stopped", 1000, seconds=1200.3, shown=tuple(range(0, 1001, 100))),
    "63-net-cut-by-glog": Right(
        "not_converged",
        2000,
        reason="ln 1000",
        more=lambda run: math.isclose(run.epochs or 0, 2000 * 32 / 1_281_167, rel_tol=1e-4),
    ),
    "64-collapsed-to-guessing": Right("not_converged", 20_000, reason="collapsed to guessing after iteration"),
    "65-detectnet-map": Right(iteration=40, accuracy=0.31, loss=305.735),
    "71-anew-after-slow-first-test": Right("stopped", 200, sessions=2, crashes=1, seconds=420.3, shown=(0, 100, 200)),
    "52-names/a-top1-acc": Right(accuracy=0.71, loss=1.5),
    "52-names/e-top5-first": Right(accuracy=0.71, loss=1.5),
    "52-names/h-googlenet": Right(accuracy=0.71, loss=1.5),
    "52-names/l-multi-task": Right(accuracy=0.4),
    "52-names/n-Accuracy1": Right(accuracy=0.71, loss=1.5),
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_reading(name: str) -> None:
    right = RIGHT[name]
    (path,) = CASES.glob(f"{name}.*")
    (run,) = read_runs([path])
    unended = not path.read_bytes().endswith(b"\n")  # a last line without its end may be cut, and is not believed
    found = Right(
        run.status if right.status else None,
        run.iteration if right.iteration is not None else None,
        len(run.sessions),
        run.crashes,
        run.accuracy if right.accuracy is not None else None,
        run.loss if right.loss is not None else None,
        None if right.seconds is None or run.seconds is None else round(run.seconds, 1),
        None if right.bad_lines is None else max(0, run.bad_lines - unended),
        right.shown and tuple(run.curve("loss", "train")["iteration"].to_list()),
        right.reason if right.reason in f"{run.status} {run.reason}".lower() else run.reason,
        right.more,
    )
    assert found == right
    assert right.more(run)


def test_every_case_has_its_reading() -> None:
    names = {path.relative_to(CASES).with_suffix("").as_posix() for path in CASES.rglob("*") if path.is_file()}
    assert {one for one in names if not one.startswith(("26-", "66-", "69-", "70-"))} == set(RIGHT)


def merge(*arguments: str | Path) -> str:
    """What the command says, on both channels."""
    done = in_process.run("merge-logs", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_two_trainings_in_one_file_are_two_runs() -> None:
    first, second = read_runs([CASES / "26-two-runs-one-file.log"])
    assert [(one.status, one.iteration, one.accuracy) for one in (first, second)] == [
        ("done", 500, 0.15),
        ("done", 800, 0.18),
    ]
    assert [(len(one.sessions), one.crashes, one.lost_iterations) for one in (first, second)] == [(1, 0, 0)] * 2
    assert first.name != second.name
    assert first.name.endswith("a")
    assert second.name.endswith("b")


def test_every_log_in_a_folder_is_found_under_whatever_name() -> None:
    folder = CASES / "66-folder-names"
    runs = read_runs([folder])
    assert {Path(path).name for run in runs for path in run.sources} == {one.name for one in folder.iterdir()}
    assert all((run.status, run.iteration) == ("done", 300) for run in runs)
    assert len({run.name for run in runs}) == len(runs)


def test_a_finished_run_is_a_run_of_its_own() -> None:
    runs = read_runs([CASES / "69-done-then-anew"])
    assert [(one.iteration, one.accuracy, one.lost_iterations) for one in runs] == [(300, 0.13, 0), (200, None, 0)]
    assert runs[0].status == "done"


def test_runs_of_one_prefix_are_told_apart_by_its_folder() -> None:
    names = [run.name for run in read_runs([CASES / "70-prefixes"])]
    assert len(names) == 2
    assert "lr001" in names[0]
    assert "lr01" in names[1]


def test_ranks_that_are_left_out_are_said(tmp_path: Path) -> None:
    said = merge(CASES / "50-intel-ranks-shuffled.log", "--out", tmp_path, "--sessions")
    assert re.search(r"\brank", said.replace("50-intel-ranks-shuffled", ""))


def test_the_choice_between_equal_accuracies_is_said(tmp_path: Path) -> None:
    said = merge(CASES / "52-names/l-multi-task.log", "--out", tmp_path)
    assert "age_accuracy" in said
    assert "--accuracy" in said


@pytest.mark.slow
def test_a_run_that_a_plot_leaves_out_is_named(tmp_path: Path) -> None:
    said = merge(CASES / "63-net-cut-by-glog.log", "--out", tmp_path, "--plot")
    assert "63-net-cut-by-glog" in "".join(line for line in said.splitlines() if "test_accuracy" in line)
