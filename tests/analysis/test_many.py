"""Many small logs are read one after the other with what the first have taught: each says what it says alone."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from caffebench.analysis.output.csv_files import with_lines
from caffebench.analysis.read.files import RunFiles
from caffebench.analysis.read.templates import LineTemplates
from caffebench.analysis.runs.model import Run
from caffebench.analysis.runs.reading import read_runs, read_source
from caffebench.analysis.runs.text_format import Message, _fill, first, parse

CASES = sorted(path for path in (Path(__file__).parent / "cases").rglob("*.log"))
PREFIX = re.compile(rb"^[IWEF]\d{4}(?:\d{4})? ", re.M)


def said(run: Run) -> object:
    told = with_lines(replace(run, sources=()))
    return told.csv_lines, told.status, told.reason, told.seconds, told.bad_lines, told.sessions, told.notes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Logs of many kinds, of each a copy in which a bit of some prefixes has flipped, that of the first line too."""
    rng = random.Random(5)
    for number, path in enumerate(CASES * 4):
        log = bytearray(path.read_bytes())
        starts = [found.start() for found in PREFIX.finditer(log)]
        for begin in [*starts[:1], *(one for one in starts if rng.random() < 0.1)] if number >= len(CASES) else ():
            log[begin + rng.randrange(25)] ^= 1 << rng.randrange(7)
        (tmp_path / f"run{number:04}.log").write_bytes(log)
    return tmp_path


def alone(folder: Path) -> list[Run]:
    return [run for path in sorted(folder.iterdir()) for run in read_source(RunFiles(path.stem, (path,)))]


def test_each_log_says_what_it_says_alone(folder: Path) -> None:
    assert [*map(said, read_runs([folder]))] == [*map(said, alone(folder))]


def test_what_other_logs_taught_would_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [*map(said, alone(folder))]
    made = LineTemplates.__init__

    def believing(self: LineTemplates, *given: object) -> None:
        made(self, *given)  # type: ignore[arg-type]
        self.seen = bytearray(b"\1" * 256)

    monkeypatch.setattr(LineTemplates, "__init__", believing)
    assert [*map(said, read_runs([folder]))] != expected


SOLVER = """
base_lr: 0.01
net_param {
  name: "a"
  layer {
    name: "data { "
    include { phase: TRAIN }
  }
}
type: "SGD"
train_state { level: 1 }
"""


def whole(text: str) -> Message:
    root: Message = {}
    _fill(root, text)
    return root


def test_a_net_is_read_once_and_in_its_place() -> None:
    solver = parse(SOLVER)
    assert list(solver) == ["base_lr", "net_param", "type", "train_state"]
    assert solver == whole(SOLVER)
    assert first(solver, "net_param") is first(parse(SOLVER.replace("0.01", "0.02")), "net_param")


def test_a_damaged_solver_is_read_as_a_whole() -> None:
    rng = random.Random(3)
    for _ in range(3000):
        text = SOLVER
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text))
            text = (
                text[:at]
                + rng.choice(["", "}", "\n}\n", "{", ":", "\nnet_param {\n", '"', "x"])
                + text[at + rng.randrange(3) :]
            )
        assert parse(text) == whole(text), text
