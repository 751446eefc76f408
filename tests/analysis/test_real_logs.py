"""The published logs, against figures worked out by hand with grep and awk."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from caffebench.analysis import read_runs
from caffebench.analysis.cli import main


def test_the_figures_of_the_batch_size_folder(shared: Path, tmp_path: Path) -> None:
    logs = shared / "caffenet-benchmark" / "logs" / "batch_size"
    done = CliRunner().invoke(main, [str(logs), "--out", str(tmp_path), "--plot"])
    assert done.exit_code == 0, done.output
    rows = {row["run"]: row for row in csv.DictReader((tmp_path / "summary.csv").open())}
    assert (rows["caffenet128_lsuv_bs1024"]["accuracy"], rows["caffenet128_lsuv_bs1024"]["loss"]) == (
        "0.41944",
        "2.65418",
    )
    assert rows["caffenet128_lsuv_bs512"]["accuracy"] == "0.4551"
    resumed = rows["caffenet128_lsuv_bs512_lr002"]
    assert (resumed["accuracy"], resumed["sessions"], resumed["crashes"]) == ("0.46966", "2", "0")
    assert rows["caffenet128_lsuv_bs128_lr002"]["status"] == "not_converged"
    for name in ("test_accuracy", "test_loss", "train_loss", "learning_rate"):
        assert (tmp_path / "plots" / f"{name}.png").stat().st_size > 10_000


def test_the_resume_of_bs512_lr002_is_at_iteration_116210(shared: Path) -> None:
    run = read_runs([shared / "caffenet-benchmark/logs/batch_size/caffenet128_lsuv_bs512_lr002.log"])[0]
    assert [one.resumed_from for one in run.sessions] == [None, 116_210]
    assert [one.ended for one in run.sessions] == ["stopped", "done"]


@pytest.mark.parametrize("name", ["caffenet128_BatchNormAfterELU.log", "architectures/resnet/dere_ResNet_45.log"])
def test_every_iteration_once(shared: Path, name: str) -> None:
    run = read_runs([shared / "caffenet-benchmark" / "logs" / name])[0]
    shown = run.curve("loss", "train")["iteration"]
    assert shown.to_list() == list(range(0, run.iteration + 1, 20))  # type: ignore[operator]
