"""Which test outputs are the accuracy and the loss of a run: the same everywhere, said, and for the user to choose."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import in_process
import pytest

from caffebench.analysis import Run, read_runs
from caffebench.analysis.output.choices import choice_remarks, with_names
from caffebench.analysis.output.report import report_data
from caffebench.common.errors import InputError

Session = Callable[..., str]
Write = Callable[..., Path]


def named(text: str, outputs: str) -> str:
    """The log with other outputs of its tests: ``accuracy``'s values for all, or ten times those with a weight."""

    def tested(found: re.Match[str]) -> str:
        prefix, value = found[1], float(found[2])
        made = []
        for number, one in enumerate(outputs.split()):
            name, _, weight = one.partition("*")
            shown = 10 * value if weight else value + number / 10
            more = f" (* {weight} = {float(weight) * shown:g} loss)" if weight else ""
            made.append(f"{prefix}    Test net output #{number}: {name} = {shown:g}{more}\n")
        return "".join(made)

    text = re.sub(r"^.*Test net output #1.*\n", "", text, flags=re.M)
    return re.sub(r"^(.*)    Test net output #0: accuracy = (\S+)\n", tested, text, flags=re.M)


@pytest.fixture
def runs(make_session: Session, write: Write) -> list[Run]:
    write("plain.log", make_session(0, 300))
    write("tasks.log", named(make_session(0, 300), "age_acc sex_acc box*2 cover*1"))
    path = write(
        "heads.log", named(make_session(0, 300), "loss1/top-1 loss3/top-5 loss3/top-1 loss1/loss*0.3 loss3/loss*1")
    )
    return read_runs([path.parent])


def test_the_rule_is_used_and_said(runs: list[Run]) -> None:
    heads, plain, tasks = runs
    assert [(run.name, run.accuracy, run.loss) for run in (heads, tasks)] == [
        ("heads", pytest.approx(0.5), pytest.approx(3.0)),
        ("tasks", pytest.approx(0.3), pytest.approx(9.0)),
    ]
    assert list(choice_remarks([plain])) == []
    assert list(choice_remarks(runs)) == [
        "accuracy of heads is loss3/top-1 (--accuracy NAME chooses)",
        "accuracy of tasks is age_acc; sex_acc could be meant as well (--accuracy NAME chooses)",
        "loss of tasks is 2 box + cover (--loss NAME chooses)",
    ]


def test_plot_and_report_draw_the_same(runs: list[Run]) -> None:
    tasks = runs[2]
    drawn = tasks.drawn_choice(tasks.loss_choice)
    assert drawn is not None
    assert drawn.envelope.value.tolist() == pytest.approx([0.0, 3.0, 6.0, 9.0])
    curves = {one["title"]: one["curves"] for one in report_data(runs)["metrics"]}
    assert curves["test loss"][2]["value"] == pytest.approx([0, 3, 6, 9])
    assert curves["test accuracy"][0]["value"] == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert {"test: box", "test: cover", "test: sex_acc"} <= set(curves)
    assert "test: age_acc" not in curves


def test_the_user_chooses(runs: list[Run]) -> None:
    chosen = with_names(runs, "sex_acc", "cover")
    assert [run.accuracy for run in chosen] == [None, None, pytest.approx(0.4)]
    assert [run.loss for run in chosen] == [None, None, pytest.approx(3.0)]
    assert list(choice_remarks(chosen)) == [
        "accuracy of heads, plain: no test output of that name",
        "loss of heads, plain: no test output of that name",
    ]
    with pytest.raises(InputError, match=r"--loss nope: .*choose from loss1/top-1, .*accuracy, loss"):
        with_names(runs, None, "nope")


def test_the_option_reaches_every_file(make_session: Session, write: Write, tmp_path: Path) -> None:
    path = write("tasks.log", named(make_session(0, 300), "age_acc sex_acc box*2 cover*1"))
    options = ["--accuracy", "sex_acc", "--loss", "cover", "--table", "--export", "json", "--out", str(tmp_path)]
    done = in_process.run("merge-logs", path, *options)
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader((tmp_path / "summary.csv").open())
    assert (float(row["accuracy"]), float(row["loss"])) == pytest.approx((0.4, 3.0))
    assert json.loads((tmp_path / "summary.json").read_text())[0]["accuracy"] == pytest.approx(0.4)
    assert "| tasks | **0.400** | **3.00** |" in done.stdout


def test_a_row_that_was_not_tested_at_its_end_says_so(make_session: Session, write: Write, tmp_path: Path) -> None:
    path = write("short.log", make_session(0, 380))
    options = ["--table", "--out", str(tmp_path)]
    done = in_process.run("merge-logs", path, *options)
    assert "in progress at 0.38K, tested at 0.3K |" in done.stdout
