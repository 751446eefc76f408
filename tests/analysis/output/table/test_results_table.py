"""The results table: rounded or cut, and with text of strangers in it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import in_process
import pytest

from caffebench.analysis import Run, read_runs
from caffebench.analysis.output.table.figures import rounded_accuracy, rounded_loss
from caffebench.analysis.output.table.formats import as_csv, as_latex, as_markdown
from caffebench.analysis.output.table.results_table import student_tail, table_rows

Session = Callable[..., str]
Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("value", "accuracy", "loss"),
    [
        (0.4657, "0.466", "0.466"),
        (2.3871, "2.387", "2.39"),
        (0.0378479, "0.038", "0.0378"),
        (0.02, "0.020", "0.0200"),
        (87.3365, "87.337", "87.3"),
        (99.96, "99.960", "100"),
        (1234.5, "1234.500", "1234"),
        (1e-5, "0.000", "1.00e-05"),
        (0.0, "0.000", "0.00"),
        (None, "-", "-"),
        (float("nan"), "n/c", "n/c"),
    ],
)
def test_figures_are_rounded(value: float | None, accuracy: str, loss: str) -> None:
    assert (rounded_accuracy(value), rounded_loss(value)) == (accuracy, loss)


HEADER = {"label": "a_b | **x** <img src=x> \\input{y} 50% $z$", "comment": "=HYPERLINK(1)\x1b[2J", "variant": "v"}


@pytest.fixture
def hostile(make_session: Session, write: Write) -> Run:
    header = HEADER | {"published_accuracy": "\\textbf{9} | +1", "published_logloss": 2.5}
    event = {"run": "a", "header": header, "pid": 100}
    first = f"I0406 04:34:52.000000   100 _caffe.cpp:68] caffebench: run {json.dumps(event)}\n"
    (run,) = read_runs([write("=1+1.log", first, make_session(0, 300))])
    return run


def test_text_is_escaped_for_markdown(hostile: Run) -> None:
    row = as_markdown(table_rows([hostile])).splitlines()[2]
    assert row.startswith(r"| a_b \| \*\*x\*\* \<img src=x\> \\input{y} 50% $z$ |")
    assert r"| \\textbf{9} \| +1 |" in row
    assert "\x1b" not in row
    assert r"| =HYPERLINK(1)\\x1b\[2J, in progress" in row


def test_text_is_escaped_for_latex(hostile: Run) -> None:
    row = as_latex(table_rows([hostile])).splitlines()[4]
    name = r"a\_b \textbar{} **x** \textless{}img src=x\textgreater{} \textbackslash{}input\{y\} 50\% \$z\$"
    assert row.startswith(f"{name} & ")
    assert r"\textbackslash{}textbf\{9\}" in row


@pytest.mark.parametrize(("name", "cell"), [("[v2] net", "{[}v2] net"), ("*star*", "{*}star*"), ("a [*]", "a [*]")])
def test_no_name_is_taken_for_an_option_by_latex(make_session: Session, write: Write, name: str, cell: str) -> None:
    """``\\\\`` and ``\\midrule`` have options in brackets, the first a star, on the next line, too."""
    paths = [write(f"{name}{end}.log", make_session(0, last)) for end, last in (("", 300), ("2", 500))]
    rows = as_latex(table_rows(read_runs(paths), each=True)).splitlines()[4:6]
    assert [row.split(" & ")[0] for row in rows] == [cell, f"{cell}2"]


def test_text_is_escaped_for_spreadsheets_and_numbers_stay(hostile: Run) -> None:
    (row,) = csv.DictReader(as_csv(table_rows([hostile])).splitlines())
    assert row["comments"].startswith("'=HYPERLINK")
    assert float(row["accuracy"]) == 0.3
    assert row["published_logloss"] == "2.5"
    assert float(row["logloss_difference"]) < 0


@pytest.mark.slow
def test_a_cut_table_is_the_published_one(make_session: Session, write: Write, tmp_path: Path) -> None:
    path = write("net.log", make_session(0, 200, loss=lambda at: 2.3879))
    shown = {}
    for style in ("rounded", "published"):
        done = in_process.run("merge-logs", path, "--table", "--out", tmp_path, "--style", style)
        assert done.returncode == 0, done.stderr
        shown[style] = (tmp_path / "table.md").read_text()
        assert shown[style] in done.stdout
    assert "| 0.200 | **2.39** |" in shown["rounded"].replace("**0.200**", "0.200")
    assert "| 0.200 | **2.38** |" in shown["published"].replace("**0.200**", "0.200")


@pytest.mark.parametrize("freedom", [1.0, 1.3, 2.0, 4.7, 30.0, 1000.0])
@pytest.mark.parametrize("t", [0.0, 0.5, 2.0, 6.3, 40.0])
def test_student_is_right(t: float, freedom: float) -> None:
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed: pip install scipy")
    assert student_tail(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-3, abs=1e-9)
