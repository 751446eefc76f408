"""``gen-prototxt --list SWEEP``: what each variant would take, the speed measured."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from caffebench.engine import fast, speed
from caffebench.engine.speed import images_per_second
from caffebench.generator.estimates import Estimate, estimates, estimates_table
from caffebench.generator.generate import generate
from caffebench.generator.variants.catalog import load_profile, load_sweep


def made(sweep: str, only: str | None = None, profile: str = "digits") -> dict[str, str]:
    return generate([load_sweep(sweep)], load_profile(profile), only=only)


def test_epochs_images_hours_memory_and_disk() -> None:
    asked: list[tuple[int, int]] = []

    def measure(net: Any, batch: int) -> float:
        asked.append((net.layer[0].dummy_data_param.shape[0].dim[0], batch))
        return 100.0 * batch

    found = {one.name: one for one in estimates(made("batch_size"), measure)}
    assert asked == [(16, 16), (8, 8), (1, 1)]  # one net, at the batch sizes up to 16
    assert {round(one.epochs or 0, 3) for one in found.values()} == {round(64 * 1280 / 1437, 3)}
    assert found["bs64"].hours == pytest.approx(64 * 1280 / 1600 / 3600)
    assert found["bs64"].memory < found["bs128"].memory < found["bs256"].memory  # type: ignore[operator]
    weights = found["bs64"].disk
    assert weights == found["bs8"].disk
    assert weights == 4 * 8 * (16 * 9 + 16 + 32 * 8 * 9 + 32 + 48 * 32 * 9 + 48 + 48 * 24 * 9 + 48 + 32 * 24 * 9 + 32
                               + 128 * 32 + 128 + 128 * 128 + 128 + 1280 + 10)  # fmt: skip


def test_phases_count_with_their_own_batches() -> None:
    found = {one.name: one for one in estimates(made("grow_batch"), lambda net, batch: 1.0)}
    assert found["growing_batch"].images == pytest.approx(found["decaying_rate"].images, rel=0.01)
    assert found["growing_batch"].iterations < found["decaying_rate"].iterations


def test_small_data_take_more_than_no_hours() -> None:
    one = Estimate("a", 4, 64, None, 16.0, None, None)  # 4 s
    shown = [estimates_table([replace(one, images=images)]).split()[13] for images in (64, 640, 64000, 6400000)]
    assert shown == ["0.0011", "0.011", "1.11", "111"]


def test_what_is_not_known_is_a_question_mark(tmp_path: Path) -> None:
    text = made("batch_size", "bs64")["bs64"].replace("# caffebench: shape: [1, 8, 8]\n", "")
    (one,) = estimates({"bs64": text}, lambda net, batch: 1.0)
    assert (one.speed, one.hours, one.memory, one.disk) == (None, None, None, None)
    assert estimates_table([one]).splitlines()[1].split() == ["bs64", "1280", "57.0", "?", "?", "?", "?"]


@pytest.mark.caffe
def test_the_speed_is_that_of_caffe_here(tmp_path: Path) -> None:
    """A net of twice the width is slower; one that cannot be built has no speed."""
    seen: list[Any] = []
    estimates(made("width", "width[12]"), lambda net, batch: seen.append(net))
    narrow, wide = (images_per_second(net, 16, 0.3) for net in seen)
    assert narrow is not None
    assert wide is not None
    assert narrow > wide > 1
    seen[0].layer[2].type = "Nothing"
    assert images_per_second(seen[0], 16, 0.1) is None


@pytest.mark.parametrize("built", [True, False])
def test_the_layers_are_those_of_a_run(monkeypatch: pytest.MonkeyPatch, built: bool) -> None:
    loaded: list[bool] = []
    monkeypatch.setenv("GLOG_minloglevel", "2")
    monkeypatch.setattr(sys, "argv", ["speed", "solver.prototxt", "0"])
    monkeypatch.setattr(fast, "is_built", lambda: built)
    monkeypatch.setattr(fast, "load", lambda: loaded.append(True))
    monkeypatch.setattr(speed, "seconds_of", lambda act, enough: 1.0)
    monkeypatch.setattr("caffebench.engine.pycaffe.import_caffe", MagicMock)
    speed.main()
    assert loaded == [True] * built


@pytest.mark.caffe
def test_the_command_prints_a_line_for_each_variant(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "gen-prototxt"), "--list", "batch_size", "--profile", "digits"]
    done = subprocess.run([*command, "--only", "bs1*_lr*"], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["variant", "iterations", "epochs"]
    assert [line.split()[0] for line in lines[1:-1]] == ["bs16_lr0.0025", "bs128_lr0.02", "bs1_lr0.00015625"]
    assert all(float(line.split()[3].replace(",", "")) > 1 for line in lines[1:-1])
    assert list(tmp_path.iterdir()) == []
