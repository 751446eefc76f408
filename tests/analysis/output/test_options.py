"""Options that ask for what cannot be: refused or said, never passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import in_process
import pytest

Session = Callable[..., str]
Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--log", "x", "--xlim", "0,100"], "--xlim 0,100: a logarithmic axis has nothing at or below 0: begin above"),
        (["--log", "xy", "--xlim", "-5,100"], "--xlim -5,100: a logarithmic axis has nothing at or below 0"),
        (["--log", "y", "--ylim", "test_loss=0,2"], "--ylim test_loss=0,2: a logarithmic axis has nothing"),
        (["--ylim", "learning_rate=0,1"], "--ylim learning_rate=0,1: a logarithmic axis has nothing"),
        (["--plot", "--format", ","], "',' names none: choose from png, svg, pdf"),
        (["--export", ", "], "', ' names none: choose from csv, parquet, json, tensorboard"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(tmp_path: Path, wrong: list[str], said: str) -> None:
    done = in_process.run("merge-logs", tmp_path / "missing.log", "--out", tmp_path / "out", *wrong)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_a_file_that_cannot_be_written_is_named(make_session: Session, write: Write, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"out/curves.{form}"
    path.mkdir(parents=True)
    done = in_process.run("merge-logs", write("a.log", make_session(0, 200)), "--export", form, "--out", path.parent)
    assert (done.returncode, done.stderr) == (1, f"merge-logs: Is a directory: {path}\n")
    assert list(path.parent.glob(".*")) == []
