"""The published logs, against figures worked out by hand: with grep and awk, seconds with date and bc."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from caffebench.analysis import read_runs
from caffebench.analysis.cli import main

BATCH_SIZE = "batch_size/caffenet128_lsuv_"
RMSPROP = "solvers/bad/caffenet_lsuv_rmsprop_095_lr001.prototxt_2016-01-24-14-22_1453638140316891712"


class Hand(NamedTuple):
    rows: int
    sessions: int
    crashes: int
    lost: int
    iteration: int | None
    accuracy: float | None
    loss: float | None
    seconds: float | None
    """From "Starting Optimization" to the snapshot that the next session resumed, or to the last iteration shown."""
    batch_size: int
    max_iter: int
    status: str


BY_HAND = {
    BATCH_SIZE + "bs1024": Hand(8163, 1, 0, 0, 80_000, 0.41944, 2.65418, 45_170.5, 1024, 80_000, "done"),
    BATCH_SIZE + "bs512": Hand(16_323, 1, 0, 0, 160_000, 0.4551, 2.46263, 47_598.3, 512, 160_000, "done"),
    BATCH_SIZE + "bs512_lr002": Hand(16_323, 2, 0, 0, 160_000, 0.46966, 2.37215, 51_956.4, 512, 160_000, "done"),
    "batch_size/tanh/caffenet128_lsuv_bs128_lr002": Hand(
        102, 1, 0, 0, 980, 0.0014, 7.08327, 122.5, 128, 640_000, "not_converged"
    ),
    "caffenet128_BatchNormAfterELU": Hand(
        31_024, 1, 0, 0, 304_120, 0.49854, 2.23167, 139_521.0, 256, 320_000, "stopped"
    ),
    RMSPROP: Hand(288, 1, 0, 0, 2840, 0.001, 64.8491, 1172.0, 256, 320_000, "not_converged"),
    # Five starts, of which two died before their first iteration, and two more without a word.
    "contrib/5x5_to_1x5_AND_faster_lr_AND_PReLU": Hand(
        16_323, 5, 4, 4600, 160_000, 0.5408, 2.00712, 62_806.0, 256, 160_000, "done"
    ),
    # Four rolled back (120 + 120 + 2400 + 20 iterations), one that found no snapshot.
    "architectures/resnet/dere_ResNet_45": Hand(
        12_670, 6, 5, 2660, 125_420, 0.4958, 2.25009, 126_485.5, 256, 160_000, "stopped"
    ),
    # The header of the second session stands before iteration 0.
    "architectures/resnet/ThinResNet-101_noBN_ReLU": Hand(
        25_921, 2, 0, 0, 251_660, 0.51862, 2.16327, 156_963.1, 64, 320_000, "stopped"
    ),
    "truncated/caffenet128_bn_after_tanh_again_05": Hand(0, 1, 0, 0, None, None, None, None, 256, 320_000, "empty"),
}


def test_every_log_at_hand_is_checked(shared: Path) -> None:
    logs = shared / "caffenet-benchmark" / "logs"
    assert {str(path.relative_to(logs))[:-4] for path in logs.rglob("*.log")} == set(BY_HAND)


@pytest.mark.parametrize("name", BY_HAND, ids=lambda name: name.rpartition("/")[2][:40])
def test_figures_worked_out_by_hand(shared: Path, name: str) -> None:
    (run,) = read_runs([shared / "caffenet-benchmark" / "logs" / f"{name}.log"])
    hand = BY_HAND[name]
    found = Hand(
        run.curves.height,
        len(run.sessions),
        run.crashes,
        run.lost_iterations,
        run.iteration,
        run.accuracy,
        run.loss,
        run.seconds if run.seconds is None else round(run.seconds, 1),
        run.config.batch_size or 0,
        run.config.max_iter or 0,
        run.status,
    )
    assert found == hand
    assert run.config.classes == 1000
    if run.iteration is not None:  # every iteration is of one batch size, and ImageNet has 1,281,167 images
        assert run.epochs == pytest.approx(run.iteration * hand.batch_size / 1_281_167, abs=1e-5)
    assert run.bad_lines == 0
    shown = run.curve("loss", "train")
    assert shown["iteration"].to_list() == list(range(0, run.iteration + 1, 20) if run.iteration is not None else ())
    assert (shown["seconds"].diff().drop_nulls() >= 0).all()


def test_sessions_of_dere_and_thin(shared: Path) -> None:
    folder = shared / "caffenet-benchmark" / "logs" / "architectures" / "resnet"
    (dere,) = read_runs([folder / "dere_ResNet_45.log"])
    assert [one.resumed_from for one in dere.sessions] == [None, 25_000, 25_000, 35_000, 70_000, 90_000]
    assert [one.lost_iterations for one in dere.sessions] == [120, 0, 120, 2400, 20, 0]
    assert "File not found: models/res_net/resnet_45_iter_25000.snapshot" in dere.sessions[1].reason
    (thin,) = read_runs([folder / "ThinResNet-101_noBN_ReLU.log"])
    assert [(one.pid, one.resumed_from, one.first_iteration) for one in thin.sessions] == [
        (19_903, None, 0),
        (3137, 100_000, 100_000),
    ]


def test_the_whole_folder_by_command(shared: Path, tmp_path: Path) -> None:
    logs = shared / "caffenet-benchmark" / "logs"
    options = ["--table", "--sessions", "--published", str(shared / "published.csv"), "--out", str(tmp_path)]
    done = CliRunner().invoke(main, [str(logs), *options])
    assert done.exit_code == 0, done.output
    rows = {row["run"]: row for row in csv.DictReader((tmp_path / "summary.csv").open())}
    assert len(rows) == 10
    assert rows["caffenet128_lsuv_bs512_lr002"]["accuracy"] == "0.46966"
    assert rows["caffenet128_lsuv_bs512_lr002"]["published_accuracy"] == "0.469"
    curves = (tmp_path / "curves.csv").read_text().splitlines()
    assert curves[0] == "run,phase,net,iteration,epoch,seconds,session,lr,metric,value"
    assert len(curves) == 1 + sum(hand.rows for hand in BY_HAND.values())
    table = (tmp_path / "table.md").read_text()
    assert "| BS=1024 | 0.419 | 2.65 | 0.419 (same) | 2.65 (same) | lr=0.01, 80K iters |" in table
    assert "| BS=128, 2xlr | n/c | n/c | n/c (same) | n/c (same) | lr=0.02 |" in table
    assert "resumed at 116,210" in done.output
