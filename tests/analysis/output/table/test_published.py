"""Published figures beside ours: whatever a spreadsheet wrote, for the runs that they are of, compared as they are."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import in_process
import pytest

from caffebench.analysis import Run, read_runs
from caffebench.analysis.output.table.published import with_published
from caffebench.analysis.output.table.results_table import table_rows
from caffebench.common.errors import InputError

Session = Callable[..., str]
Write = Callable[..., Path]
Given = Callable[[str], Path]

HEAD = "variant,label,accuracy,logloss,comment\n"


@pytest.fixture
def given(tmp_path: Path) -> Given:
    def make(text: str) -> Path:
        path = tmp_path / "published.csv"
        path.write_bytes(text.encode())
        return path

    return make


@pytest.fixture
def log(make_session: Session, write: Write) -> Path:
    """Of an accuracy that is no round number, and of a loss with more decimals than six."""
    text = make_session(0, 200, loss=lambda _: 0.0378479).replace("accuracy = 0.2", "accuracy = 0.966667")
    return write("net.log", text)


@pytest.fixture
def net(log: Path) -> Run:
    (run,) = read_runs([log])
    return run


@pytest.mark.parametrize(
    ("accuracy", "loss", "differences"),
    [
        ("0.966667", "0.0378479", ("same", "same")),
        ("0.9666", "0.0378", ("same", "same")),
        ("0.96", "0.03", ("same", "same")),
        ("0.9", "0.0", ("same", "same")),
        ("1", "0", ("-1", "same")),
        (".966", "3.78e-2", ("same", "same")),
        ("0.970", "0.0400", ("-0.004", "-0.0022")),
        ("0.9666670", "0.03784790", ("same", "same")),
        ("96.6", "3.78", ("same", "-3.75")),  # a percentage, but a loss is none
        ("96.67", "n/c", ("-0.01", "differs")),
        ("1e999999999", "inf", ("", "")),
    ],
)
def test_ours_is_cut_to_the_digits_of_the_published_figure(
    net: Run, given: Given, accuracy: str, loss: str, differences: tuple[str, str]
) -> None:
    runs, notes = with_published(given(f"{HEAD}net,,{accuracy},{loss},\n"), [net])
    (row,) = table_rows(runs)
    assert ((row.accuracy_difference, row.loss_difference), notes) == (differences, [])


def test_a_score_in_percent_is_compared_in_percent(log: Path, given: Given) -> None:
    log.write_text(log.read_text().replace("accuracy = 0.966667", "accuracy = 60.51"))
    ((row,), _) = with_published(given(f"{HEAD}net,,60.4,,\n"), read_runs([log]))
    assert table_rows([row])[0].accuracy_difference == "+0.1"


def test_a_row_is_only_of_the_run_that_it_names(make_session: Session, write: Write, given: Given) -> None:
    write("x.log", make_session(0, 200))
    runs = read_runs([write("net.log", make_session(0, 300)).parent])
    (net, x), notes = with_published(given("accuracy,logloss,variant\n0.5,2\n0.4,3,net \n\n,,\n"), runs)
    assert (net.published, x.published) == (("0.4", "3"), ("", ""))
    (note,) = notes
    assert note.endswith("published.csv: 1 of 2 rows without a variant, and so of no run")


def test_that_no_row_is_of_any_run_is_said(net: Run, given: Given) -> None:
    (run,), (note,) = with_published(given(f"{HEAD}nett,,1,1,\nbs512,,1,1,\n"), [net])
    assert run.published == ("", "")
    assert note.endswith("published.csv: no row is of any run: variants nett, bs512; runs net")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffvariant,accuracy,logloss,label\r\nnet,0.96,0.03,A net\r\n",
        'variant;label;accuracy;logloss\r\nnet;"A; net";0,96;0,03\r\n;;;\r\n',
        "\ufefflabel;variant;logloss;accuracy;\nA net;net;0.03;0.96;\n",
        "variant \taccuracy\tlogloss\tlabel\nnet\t0,96\t0,03\tA net\n",
    ],
)
def test_what_spreadsheets_write_is_read(net: Run, given: Given, text: str) -> None:
    (run,), notes = with_published(given(text), [net])
    assert (run.published, run.label.replace(";", ""), notes) == (("0.96", "0.03"), "A net", [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD, "has no rows: give a header"),
        ("", "has no rows: give a header"),
        ("\ufeffvariant;accuracy;logloss\r\n;;\r\n", "has no rows: give a header"),
        ("variant,accuracy\nnet,0.9\n", "has no column logloss: give"),
        ("name,accuracy\n", "has no column logloss and no column variant: give"),
    ],
)
def test_what_a_file_lacks_is_said(net: Run, given: Given, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_published(given(text), [net])


def test_every_output_of_a_call_has_the_published_figures(log: Path, tmp_path: Path, given: Given) -> None:
    path = given(f"{HEAD}net,A net,0.96,0.03,by hand\n")
    done = in_process.run("merge-logs", log, "--published", path, "--json", "--out", tmp_path / "out")
    (shown,) = json.loads(done.stdout)
    (written,) = csv.DictReader((tmp_path / "out/summary.csv").open())
    told = ("label", "published_accuracy", "published_logloss")
    assert [shown[name] for name in told] == [written[name] for name in told] == ["A net", "0.96", "0.03"]
    given(f"{HEAD}other,,0.96,0.03,\n")
    done = in_process.run("merge-logs", log, "--published", path, "--out", tmp_path / "out")
    assert "no row is of any run" in done.stderr
