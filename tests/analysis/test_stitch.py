"""Every iteration once, from any number of sessions in any order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from caffebench.analysis import read_runs
from caffebench.analysis.runs.model import Run

Session = Callable[..., str]
Write = Callable[..., Path]


def only(path: Path) -> Run:
    runs = read_runs([path])
    assert len(runs) == 1
    return runs[0]


def iterations(run: Run) -> list[int]:
    return run.curve("loss", "train")["iteration"].to_list()


def test_a_killed_runs_parts_are_one_curve_with_every_iteration_once(make_session: Session, write: Write) -> None:
    write("net.001.log", make_session(0, 340))
    path = write("net.002.log", make_session(300, 600, resume=True, pid=200, end="Optimization Done."))
    run = only(path.parent)
    assert run.name == "net"
    assert iterations(run) == list(range(0, 601, 20))
    assert run.curve("loss", "train")["session"].to_list() == [1] * 15 + [2] * 16
    assert (run.status, run.crashes, run.lost_iterations, len(run.sessions)) == ("done", 1, 40, 2)


def test_at_the_iteration_of_the_resume_the_later_session_wins(make_session: Session, write: Write) -> None:
    path = write("net.log", make_session(0, 300, loss=lambda _: 1.0), make_session(300, 400, resume=True, pid=2))
    at_300 = only(path).curves.filter(pl.col("iteration") == 300)
    assert at_300["session"].unique().to_list() == [2]
    assert sorted(at_300["metric"].to_list()) == ["accuracy", "batch_loss", "loss", "loss"]


def test_an_output_that_got_another_number_is_the_same_one(make_session: Session, write: Write) -> None:
    later = make_session(100, 200, pid=7, at=datetime(2016, 4, 7), resume=True)
    later = later.replace("output #1: loss", "output #2: loss").replace("output #0: acc", "output #1: acc")
    (run,) = read_runs([write("net.log", make_session(0, 120), later)])
    for name in ("accuracy", "loss"):
        assert run.curve(name)["iteration"].to_list() == [0, 100, 200]
        assert run.curve(name)["session"].to_list() == [1, 2, 2]


@pytest.mark.parametrize("resumed", [False, True])
def test_pieces_that_overlap_are_one_log(make_session: Session, write: Write, resumed: bool) -> None:
    text = make_session(0, 300)
    if resumed:
        text += make_session(200, 600, pid=7, at=datetime(2016, 4, 7), resume=True)
    lines = text.splitlines(keepends=True)
    expected = only(write("whole.log", text))
    for begin, end in ((len(lines) - 60, len(lines) - 20), (len(lines) - 30, len(lines) - 29)):
        run = only(write("net.log", *lines[:end], *lines[begin:]))
        assert (run.crashes, run.lost_iterations) == (expected.crashes, expected.lost_iterations)
        assert run.curves.drop("run").equals(expected.curves.drop("run"))


def test_a_log_whose_newest_line_stands_first_is_read_from_its_end(make_session: Session, write: Write) -> None:
    lines = (make_session(0, 300) + make_session(200, 400, pid=7, at=datetime(2016, 4, 7), resume=True)).splitlines()
    expected = only(write("a.log", "\n".join(lines)))
    run = only(write("b.log", "\n".join(lines[::-1])))
    assert run.notes[0].endswith("its newest line stands first: it is read from its end")
    assert run.curves.drop("run").equals(expected.curves.drop("run"))
    assert (run.config, run.status, len(run.sessions)) == (expected.config, expected.status, 2)


def test_what_begins_anew_with_another_solver_is_reported(make_session: Session, write: Write) -> None:
    paths = [write("net.001.log", make_session(0, 300))]
    again = make_session(0, 200, pid=7, at=datetime(2016, 4, 7))
    for text, notes in ((again, 0), (again.replace("base_lr: 0.01", "base_lr: 0.001"), 1)):
        run = only(write("net.010.log", text).parent)
        assert (run.lost_iterations, len(run.notes)) == (300, notes)
    assert "session 2 begins anew with another solver" in run.notes[0]
    paths.append(paths[0].with_name("net.010.log"))
    apart = read_runs([], named={"a": paths[:1], "b": paths[1:]})
    assert [(one.name, one.lost_iterations, one.notes) for one in apart] == [("a", 0, ()), ("b", 0, ())]


def test_seconds_hold_no_nights_and_no_lost_work(make_session: Session, write: Write) -> None:
    night = datetime(2016, 4, 7, 9, 0, 0)
    path = write("net.log", make_session(0, 340), make_session(300, 400, resume=True, pid=2, at=night))
    seconds = dict(only(path).curve("loss", "train").select("iteration", "seconds").iter_rows())
    assert seconds[280] == 280.5
    assert seconds[320] == 320.5  # the snapshot at 300 was written at second 300
    assert seconds[400] == 400.5


def test_what_begins_anew_begins_at_epoch_0_whatever_was_before(make_session: Session, write: Write) -> None:
    morning = datetime(2016, 4, 7, 9, 0, 0)
    path = write("net.log", make_session(300, 600, resume=True), make_session(0, 400, pid=2, at=morning))
    (run,) = read_runs([path], train_size=3200)
    epochs = dict(run.curve("loss", "train").select("iteration", "epoch").iter_rows())
    assert (epochs[0], epochs[400], run.epochs) == (0.0, 4.0, 4.0)


def test_without_any_header_a_new_process_or_a_rewind_is_a_session(make_session: Session, write: Write) -> None:
    for pid in (100, 200):
        later = make_session(200, 400, pid=pid, header=False, at=datetime(2016, 4, 6, 8, 0, 0))
        run = only(write("net.log", make_session(0, 260), later))
        assert iterations(run) == list(range(0, 401, 20))
        assert (len(run.sessions), run.lost_iterations) == (2, 60)


def test_pieces_in_the_wrong_order_are_put_right(make_session: Session, write: Write) -> None:
    second = make_session(300, 600, resume=True, pid=200, at=datetime(2016, 4, 7))
    run = only(write("net.log", second, make_session(0, 340)))
    assert iterations(run) == list(range(0, 601, 20))
    assert run.lost_iterations == 40


def test_new_year_is_no_wrong_order(make_session: Session, write: Write) -> None:
    first = make_session(0, 340, at=datetime(2015, 12, 31, 23, 58))
    second = make_session(300, 600, resume=True, pid=200, at=datetime(2016, 1, 1, 12))
    run = only(write("net.log", first, second))
    assert iterations(run) == list(range(0, 601, 20))
    assert run.curve("loss", "train")["seconds"].to_list() == [float(i) + 0.5 for i in range(0, 601, 20)]


@pytest.mark.parametrize("hours", [-13, -2, 0])
def test_what_resumes_stays_behind_on_a_machine_with_another_clock(
    make_session: Session, write: Write, hours: int
) -> None:
    first = make_session(0, 340)
    later = make_session(300, 600, pid=7, at=datetime(2016, 4, 6, 5) + timedelta(hours=hours), resume=True)
    paths = [write("a.txt", first), write("b.txt", later)]
    (run,) = read_runs([], named={"net": paths[::-1] if not hours else paths})
    assert (run.iteration, run.lost_iterations, run.crashes) == (600, 40, 1)


@pytest.mark.parametrize(("month", "day"), [(9, 20), (12, 31)])
def test_a_pause_of_more_than_half_a_year(make_session: Session, write: Write, month: int, day: int) -> None:
    first = make_session(0, 340, at=datetime(2016, 3, 10, 4))
    later = make_session(300, 600, pid=7, at=datetime(2016, month, day, 4), resume=True)
    for run in (only(write("net.log", first, later)), only(write("turned.log", later, first))):
        assert (run.iteration, run.lost_iterations) == (600, 40)


def test_what_begins_anew_need_not_show_iteration_0(make_session: Session, write: Write) -> None:
    """Without a display, and tested seldom: the first row is one of a later iteration."""
    again = make_session(0, 400, pid=7, at=datetime(2016, 4, 7)).splitlines(keepends=True)
    head = next(at for at, line in enumerate(again) if "Starting" in line) + 1
    there = next(at for at, line in enumerate(again) if "Iteration 200, Testing" in line)
    run = only(write("net.log", make_session(0, 300), *again[:head], *again[there:]))
    assert run.curve("accuracy")["iteration"].to_list() == [200, 300, 400]
    assert run.lost_iterations == 300
    assert run.curve("accuracy")["seconds"].to_list()[0] == pytest.approx(202, abs=3)
