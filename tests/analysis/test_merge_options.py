"""The options of ``merge-logs`` that concern the report, the exports and the plots."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import in_process
import pytest

Session = Callable[..., str]
Write = Callable[..., Path]


def merge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return in_process.run("merge-logs", *arguments)


@pytest.mark.slow
def test_everything_is_written_where_it_says(make_session: Session, write: Write, tmp_path: Path) -> None:
    write("a.log", make_session(0, 300))
    path = write("b.log", make_session(0, 400).replace("batch_size: 32", "batch_size: 64"))
    wanted = ["--html", "--export", "csv,parquet,json,tensorboard", "--plot", "--format", "svg,pdf", "--x", "seconds"]
    more = [
        "--log",
        "xy",
        "--smooth",
        "5",
        "--resumes",
        "--train-size",
        "1000",
        "--xlim",
        "1,5",
        "--ylim",
        "test_loss=1,2",
    ]
    done = merge(path.parent, "--out", tmp_path / "out", *wanted, *more)
    assert done.returncode == 0, done.stderr
    said = [Path(line) for line in done.stdout.splitlines() if line.startswith(str(tmp_path))]
    files = {one.relative_to(tmp_path / "out").as_posix() for one in said}
    plots = {
        f"plots/{name}.{suffix}"
        for name in ("test_accuracy", "test_loss", "train_loss", "learning_rate")
        for suffix in ("svg", "pdf")
    }
    tables = {f"{name}.{suffix}" for name in ("curves", "summary") for suffix in ("csv", "parquet", "json")}
    assert files == {"report.html", "tensorboard", *plots, *tables}
    assert all(one.exists() for one in said)
    assert len(said) == len(files)
    assert "training time, minutes" in (tmp_path / "out/plots/test_loss.svg").read_text()
    assert '"x":"seconds"' in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--export", "excel"], "'excel' is not one of csv, parquet, json, tensorboard"),
        (["--format", "png,gif"], "'gif' is not one of png, svg, pdf"),
        (["--log", "z"], "'z' is not one of 'x', 'y', 'xy'"),
        (["--xlim", "5"], "'5' is not LOW,HIGH, as in 0.4,0.9"),
        (["--ylim", "test_loss=2,1"], "'2,1': the first must be less than the second"),
        (["--ylim", "loss=0,1"], "'loss' is no plot: choose from test_accuracy, test_loss, train_loss, learning_rate"),
        (["--smooth", "0"], "0 is not in the range x>=1"),
        (["--watch", "--every", "0"], "0 is not in the range x>=0.1"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(tmp_path: Path, wrong: list[str], said: str) -> None:
    done = merge(tmp_path, "--out", tmp_path / "out", *wrong)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_an_earlier_call_left_is_said_to_be_old(make_session: Session, write: Write, tmp_path: Path) -> None:
    path = write("a.log", make_session(0, 300))
    options = ["--table", "--html", "--plot", "--export", "json,tensorboard"]
    first = merge(path, "--out", tmp_path / "out", *options)
    assert (first.returncode, "earlier call" in first.stderr) == (0, False)
    (tmp_path / "out/notes.txt").write_text("the user's own")
    (path.parent / "a.log").rename(path.parent / "b.log")
    second = merge(path.parent, "--out", tmp_path / "out", "--table", "--export", "tensorboard")
    (said,) = [line for line in second.stderr.splitlines() if "earlier call" in line]
    for name in ("report.html", "curves.json", "summary.json", "plots/test_loss.png", "tensorboard/a/"):
        assert f"out/{name}" in said
    for name in ("table.md", "curves.csv", "tensorboard/b/", "notes.txt"):
        assert f"out/{name}" not in said


def test_options_without_effect_are_named(make_session: Session, write: Write, tmp_path: Path) -> None:
    path = write("net.log", make_session(0, 100))
    idle = merge(path, "--out", tmp_path, "--x", "epoch", "--format", "svg", "--style", "rounded")
    assert idle.returncode == 0
    assert idle.stderr.splitlines() == [
        "--format has no effect without --plot",
        "--x has no effect without --plot or --html",
        "--style has no effect without --table",
    ]
    busy = merge(path, "--out", tmp_path, "--x", "iteration", "--html", "--plot", "--smooth", "3", "--each")
    assert "no effect" not in busy.stderr
