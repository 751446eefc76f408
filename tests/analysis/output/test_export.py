"""Exports, each read back by the reader that its users have."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from caffebench.analysis import COLUMNS, read, read_runs
from caffebench.analysis.output.csv_files import with_lines
from caffebench.analysis.output.export import export
from caffebench.analysis.runs.model import Run
from caffebench.common.errors import InputError

Session = Callable[..., str]
Write = Callable[..., Path]
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def runs(make_session: Session, write: Write) -> list[Run]:
    write("net.001.log", make_session(0, 340, years=True))
    write("net.002.log", make_session(300, 600, resume=True, pid=200, years=True, at=datetime(2016, 4, 8)))
    path = write("sick.log", make_session(0, 300, loss=lambda at: math.nan if at == 300 else 2.0))
    return read_runs([path.parent], train_size=1000)


def test_csv_and_parquet_give_the_table_back(runs: list[Run], tmp_path: Path) -> None:
    paths = export(runs, tmp_path, ["csv", "parquet"])
    assert [one.name for one in paths] == ["curves.csv", "summary.csv", "curves.parquet", "summary.parquet"]
    table = pl.concat([run.curves for run in runs])
    assert_frame_equal(pl.read_parquet(paths[2]), table)
    assert_frame_equal(pl.read_csv(paths[0], schema=table.schema), table)
    assert pl.read_parquet(paths[3])["run"].to_list() == ["net", "sick"]


def test_only_csv_has_apostrophes_before_formulas(make_session: Session, write: Write, tmp_path: Path) -> None:
    names = ["-x,y z", "=sum", "@a'b\"", "plain"]
    for name in names:
        path = write(f"{name}.log", make_session(0, 200).replace("accuracy", "+acc"))
    runs = [with_lines(run) for run in read_runs([path.parent])]
    paths = export(runs, tmp_path, ["csv", "parquet", "json"])
    table = pl.concat([run.curves for run in runs])
    assert_frame_equal(pl.read_parquet(paths[2]), table)
    assert "+acc" in table["metric"]
    assert sorted(pl.read_parquet(paths[3])["run"]) == names
    assert {row["run"] for row in json.loads(paths[4].read_text())} == {*names}
    assert {*pl.read_csv(paths[0])["run"]} == {f"'{name}" for name in names[:3]} | {"plain"}


def test_json_is_json(runs: list[Run], tmp_path: Path) -> None:
    curves, summary = export(runs, tmp_path, ["json"])
    rows = json.loads(curves.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert tuple(rows[0]) == COLUMNS
    table = pl.concat([run.curves for run in runs])
    assert [row["value"] for row in rows] == [None if math.isnan(one) else one for one in table["value"]]
    assert json.loads(summary.read_text())[0]["lost_iterations"] == 40


def test_pandas_reads_it(runs: list[Run], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas pyarrow")
    table = pl.concat([run.curves for run in runs]).to_pandas()
    assert list(table.columns) == list(COLUMNS)
    paths = export(runs, tmp_path, ["csv", "parquet", "json"])
    sums = [pandas.read_csv(paths[0]), pandas.read_parquet(paths[2]), pandas.read_json(paths[4]), table]
    assert len({round(one["value"].sum(), 6) for one in sums}) == 1


def test_tensorboards_own_reader_reads_the_stitched_steps(runs: list[Run], tmp_path: Path) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_multiplexer", reason="TensorBoard is not installed"
    )
    (folder,) = export(runs, tmp_path, ["tensorboard"])
    board = reader.EventMultiplexer(size_guidance={"tensors": 0, "scalars": 0}).AddRunsFromDirectory(str(folder))
    board.Reload()
    assert sorted(board.Runs()) == ["net", "sick"]
    accumulator = board.GetAccumulator("net")
    tags = accumulator.Tags()
    assert sorted([*tags["scalars"], *tags["tensors"]]) == [
        "test/accuracy",
        "test/loss",
        "train/batch_loss",
        "train/loss",
        "train/lr",
    ]
    for tag, metric, phase in (("test/accuracy", "accuracy", "test"), ("train/loss", "loss", "train")):
        curve = runs[0].curve(metric, phase)
        events = accumulator.Tensors(tag) if tag in tags["tensors"] else accumulator.Scalars(tag)
        assert [one.step for one in events] == curve["iteration"].to_list()
        values = [one.value if hasattr(one, "value") else one.tensor_proto.float_val[0] for one in events]
        assert values == pytest.approx(curve["value"].to_list(), rel=1e-6)
        times = [one.wall_time - datetime(2016, 4, 6, 4, 34, 53).timestamp() for one in events]
        assert times == pytest.approx(curve["seconds"].to_list(), abs=0.01)  # though there was a day between


def test_a_name_does_not_lead_out_of_the_folder(runs: list[Run], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    run = replace(runs[0], name="../../../out/../net")
    (folder,) = export([run], tmp_path / "a" / "b", ["tensorboard"])
    files = [one for one in tmp_path.rglob("*tfevents*") if one.is_file()]
    assert files == [folder / "out" / "net" / "events.out.tfevents.caffebench"]


def test_an_unknown_format_is_refused_by_name(runs: list[Run], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'excel': choose from csv, parquet, json, tensorboard"):
        export(runs, tmp_path, ["csv", "excel"])
    assert list(tmp_path.glob("*.csv")) == []


@pytest.mark.parametrize("page", ["python.md", "plots.md"])
def test_the_examples_of_the_documentation(
    page: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").symlink_to(shared / "caffenet-benchmark/logs/batch_size")
    monkeypatch.chdir(tmp_path)
    text = (DOCS / page).read_text()
    examples = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)
    assert examples
    known: dict[str, object] = {"read": read}
    for code, output in examples:
        exec(compile(code, f"docs/{page}", "exec"), known)  # noqa: S102 - our own page
        assert capsys.readouterr().out.strip() == output.strip()


def test_without_tensorboard_it_says_what_to_install(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(InputError, match=r"pip install 'caffebench\[tensorboard\]'"):
        export(runs, tmp_path, ["tensorboard"])
