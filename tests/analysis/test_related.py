"""One training in several files that are named as people please: nights, rotated logs."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

from caffebench.analysis import read, read_runs
from caffebench.analysis.cli import main
from caffebench.analysis.runs.groups import group_runs

Session = Callable[..., str]
Write = Callable[..., Path]


def hints(paths: Sequence[Path], out: Path) -> list[str]:
    """The lines in which merge-logs says which files are of one run."""
    result = CliRunner().invoke(main, [*map(str, paths), "--out", str(out)])
    assert result.exit_code == 0, result.output
    return [line for line in result.stderr.splitlines() if " continue" in line]


def test_nights_in_files_of_their_own_are_named_with_what_joins_them(
    make_session: Session, write: Write, tmp_path: Path
) -> None:
    nights = [
        write("monday.log", make_session(0, 340)),
        write("tuesday, again.log", make_session(300, 690, pid=200, at=datetime(2016, 4, 7), resume=True)),
        write("other.log", make_session(0, 690, pid=300).replace("snapshots/net", "snapshots/other")),
        write("wednesday.txt", make_session(650, 990, pid=200, at=datetime(2016, 4, 8), resume=True)),
    ]
    (said,) = hints(nights, tmp_path / "out")
    assert said.startswith("tuesday, again, wednesday continue monday: --run ")
    nights[1] = nights[1].rename(tmp_path / "tuesday.log")  # a comma parts files
    (said,) = hints(nights, tmp_path / "out")
    option = shlex.split(said.partition(": ")[2].partition(" makes")[0])
    assert CliRunner().invoke(main, [*option, "--out", str(tmp_path / "joined")]).exit_code == 0
    together = write("monday_.log", *(one.read_text() for one in [nights[0], nights[1], nights[3]]))
    CliRunner().invoke(main, [str(together), "--out", str(tmp_path / "whole")])
    joined, whole = ((tmp_path / one / "curves.csv").read_text() for one in ("joined", "whole"))
    assert joined == whole.replace("monday_", "monday")


def test_of_several_the_one_before_is_continued(make_session: Session, write: Write, tmp_path: Path) -> None:
    days = {"a": 3, "b": 5, "d": 9}  # each anew, with the snapshots of the one before overwritten
    logs = [
        write(f"{name}.log", make_session(0, 500, pid=day, at=datetime(2016, 4, day))) for name, day in days.items()
    ]
    logs.append(write("c.log", make_session(300, 600, pid=7, at=datetime(2016, 4, 7), resume=True)))
    (said,) = hints(logs, tmp_path / "out")
    assert said.startswith("c continues b: ")


def test_copies_are_named_and_no_group(make_session: Session, write: Write, tmp_path: Path) -> None:
    text = make_session(0, 500)
    created = "Log file created at: 2016/04/06 04:34:53\n"
    write("net.log", text)
    write("net (copy).log", text[: len(text) * 2 // 3])
    write(
        "caffe.host.me.log.INFO.20160406-043453.100", created + text
    )  # what glog keeps beside what the terminal shows
    write("seed2.log", make_session(0, 500, pid=101, loss=lambda iteration: 2.2 / (1 + iteration / 100)))
    folder = write("seed3.log", make_session(0, 500, pid=102, at=datetime(2016, 4, 8))).parent
    result = CliRunner().invoke(main, [str(folder), "--out", str(tmp_path)])
    (said,) = [line for line in result.stderr.splitlines() if " the same as " in line]
    assert said == "logs/net~2, net (copy) say the same as logs/net: leave out all but one"
    with (tmp_path / "groups.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["runs"]) for row in rows) == [1, 1, 3]


def test_nights_of_one_training_are_no_seeds(make_session: Session, write: Write, tmp_path: Path) -> None:
    nights = [
        write("monday.log", make_session(0, 340)),
        write("tuesday.log", make_session(300, 690, pid=200, at=datetime(2016, 4, 7), resume=True)),
        write("later.log", make_session(700, 900, pid=200, at=datetime(2016, 4, 8), header=False)),
    ]
    assert [len(group.runs) for group in group_runs(read_runs(nights))] == [1, 1, 1]


def test_what_branches_off_is_named_apart(make_session: Session, write: Write, tmp_path: Path) -> None:
    first = write("first.log", make_session(0, 340))
    later = [
        write(f"{name}.log", make_session(300, end, pid=200, at=datetime(2016, 4, 7), resume=True))
        for name, end in (("a", 500), ("b", 900))
    ]
    said = hints([first, *later], tmp_path / "out")
    assert [one.partition(":")[0] for one in said] == ["a continues first", "b continues first"]


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ({"first": 0, "last": 200}, {"first": 300, "last": 500, "resume": True}),  # what lies between is missing
        ({"first": 0, "last": 400}, {"first": 0, "last": 500}),  # both begin anew, with the same prefix
        ({"first": 0, "last": 300}, {"first": 300, "last": 500}),  # what pycaffe restores is not said
        ({"first": 0, "last": 200}, {"first": 220, "last": 500, "header": False, "pid": 7}),  # of another process
    ],
)
def test_what_is_not_known_to_continue_is_not_joined(
    make_session: Session, write: Write, tmp_path: Path, first: dict[str, int], later: dict[str, int]
) -> None:
    for prefix in ("snapshots/net", "none"):
        texts = [make_session(**one).replace("snapshots/net", prefix) for one in (first, later)]
        logs = [write(f"{name}.log", text) for name, text in zip(("first", "later"), texts, strict=True)]
        assert not hints(logs, tmp_path / "out")


@pytest.mark.parametrize("cuts", [(340,), (100, 110, 700)])
def test_a_rotated_log_is_joined_to_what_it_was(
    make_session: Session, write: Write, tmp_path: Path, cuts: tuple[int, ...]
) -> None:
    text = make_session(0, 1000)
    places = [0, *(text.index("\n", text.index(f"Iteration {one // 20 * 20}, lr")) + 1 for one in cuts), len(text)]
    pieces = [
        write(f"train.log.{len(places) - number}", text[begin:end])
        for number, (begin, end) in enumerate(pairwise(places))
        if begin < end
    ]
    (said,) = hints([tmp_path], tmp_path / "out")
    files = shlex.split(said.partition("--run ")[2])[0].partition("=")[2]
    assert files == ",".join(map(str, pieces))
    (whole,) = read_runs([write("whole.log", text)])
    (joined,) = read_runs([], named={"whole": pieces})
    assert_frame_equal(joined.curves.drop("session"), whole.curves.drop("session"))
    assert (joined.seconds, joined.lost_seconds, joined.crashes) == (whole.seconds, 0, 0)
    assert sum(one.seconds for one in joined.sessions) == pytest.approx(whole.seconds)
    result = CliRunner().invoke(main, [str(pieces[1]), "--sessions", "--out", str(tmp_path / "out")])
    assert "its beginning is missing" in result.output
    assert "began anew" not in result.output


@pytest.mark.parametrize("told", [False, True])
def test_nights_over_new_year_in_several_files(make_session: Session, write: Write, told: bool, tmp_path: Path) -> None:
    eve = datetime(2016, 12, 31, 23, 50)
    write("net.001.log", "Log file created at: 2016/12/31 23:50:00\n" if told else "", make_session(0, 340, at=eve))
    write("net.002.log", make_session(300, 690, pid=200, at=datetime(2017, 1, 1, 8), resume=True))
    last = write("net.003.log", make_session(650, 990, pid=300, at=datetime(2017, 1, 2, 8), resume=True))
    (run,) = read_runs([tmp_path])
    assert run.wall_seconds == pytest.approx((datetime(2017, 1, 2, 8, 5, 32, 500000) - eve).total_seconds(), abs=1)
    assert [one.began.year for one in run.sessions if one.began] == ([2016, 2017, 2017] if told else [1600, 1601, 1601])
    assert len(read(last)) < len(run.curves)


@pytest.mark.parametrize(("rate", "runs", "crashes"), [("0.01", 1, [1]), ("0.02", 2, [0, 0])])
def test_one_process_trains_one_after_the_other_where_the_solvers_differ(
    make_session: Session, write: Write, rate: str, runs: int, crashes: list[int]
) -> None:
    later = make_session(0, 500, at=datetime(2016, 4, 7)).replace("base_lr: 0.01", f"base_lr: {rate}")
    found = read_runs([write("script.log", make_session(0, 300), later)])
    assert len(found) == runs, "a container that starts again gives the same number, and the same solver"
    assert [run.crashes for run in found] == crashes


def test_what_pycaffe_restores_without_a_word_did_not_begin_anew(
    make_session: Session, write: Write, tmp_path: Path
) -> None:
    result = CliRunner().invoke(
        main, [str(write("net.log", make_session(300, 500))), "--sessions", "--out", str(tmp_path)]
    )
    assert "began at 300, 300 to 500" in result.output


def test_the_order_of_files_and_wildcards_make_no_difference(
    make_session: Session, write: Write, tmp_path: Path
) -> None:
    text = make_session(0, 340) + make_session(300, 690, pid=200, at=datetime(2016, 12, 31, 23, 58), resume=True)
    text += make_session(650, 990, pid=300, at=datetime(2017, 1, 2), resume=True)
    starts = [0, *(text.index("Iteration 200, Testing"), text.index("Iteration 600, Testing")), len(text)]
    starts = [text.rfind("\n", 0, one) + 1 for one in starts]
    pieces = [
        write(f"train.log{suffix}", text[begin:end])
        for suffix, (begin, end) in zip((".2", ".1", ""), pairwise(starts), strict=True)
    ]
    curves = set()
    for named in (",".join(map(str, pieces)), ",".join(map(str, reversed(pieces))), str(pieces[0].with_name("train*"))):
        out = tmp_path / "out"
        assert CliRunner().invoke(main, ["--run", f"net={named}", "--out", str(out)]).exit_code == 0
        curves.add((out / "curves.csv").read_text())
    assert len(curves) == 1
    (run,) = read_runs([], named={"net": pieces})
    (whole,) = read_runs([write("whole.log", text)])
    assert (run.lost_iterations, run.iteration) == (whole.lost_iterations, whole.iteration)
    assert run.seconds == pytest.approx(whole.seconds, abs=1)


@pytest.mark.parametrize(("pid", "said"), [(4242, 1), (7, 0)])
def test_pieces_that_overlap_are_one_training(
    make_session: Session, write: Write, tmp_path: Path, pid: int, said: int
) -> None:
    """Where the number of the process tells it: in containers the same few come again."""
    lines = make_session(0, 600, pid=pid).splitlines(keepends=True)
    pieces = [write("a.log", *lines[:-40]), write("b.log", *lines[-60:])]
    assert len(hints(pieces, tmp_path / "out")) == said
    (run,) = read_runs([], named={"net": pieces})
    assert (run.lost_iterations, run.iteration) == (0, 600)
