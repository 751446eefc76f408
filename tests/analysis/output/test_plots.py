"""Plots, by what is in their axes and in their files."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import in_process
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from caffebench.analysis import read_runs
from caffebench.analysis.output.drawing.looks import MARKERS, Look, looks
from caffebench.analysis.output.drawing.plot_style import COLORS, DASHES, style
from caffebench.analysis.output.plots import (
    PLOTS,
    View,
    draw_learning_rate,
    draw_test_accuracy,
    draw_test_loss,
    draw_train_loss,
    save_plots,
    usual_x,
)
from caffebench.analysis.runs.model import Run
from caffebench.common.errors import InputError

Session = Callable[..., str]
Write = Callable[..., Path]


@pytest.fixture
def ax() -> Any:
    return Figure(figsize=(6, 4)).add_subplot()


def _noisy(at: int) -> float:
    return 2.0 / (1 + at / 300) + random.Random(at).uniform(-0.2, 0.2)


@pytest.fixture
def runs(make_session: Session, write: Write) -> list[Run]:
    write("short.log", make_session(0, 500))
    write("good.001.log", make_session(0, 3000, loss=_noisy))
    write("good.002.log", make_session(2900, 4000, loss=_noisy, resume=True, pid=2))
    path = write("away.log", make_session(0, 2000, loss=lambda at: 2.3 + at))
    return read_runs([path.parent], train_size=3200)


def _curves(ax: Any, kind: str = "curve") -> list[Any]:
    return [one for one in ax.lines if one.get_gid() == kind]


def _legend(ax: Any) -> list[str]:
    return [one.get_text() for one in ax.get_legend().get_texts()]


def test_every_plot_takes_and_returns_its_axes(runs: list[Run], ax: Any) -> None:
    for draw in PLOTS.values():
        axes = Figure().add_subplot()
        assert draw(axes, runs, View()) is axes
        assert len(_curves(axes)) == 3


def test_the_legend_is_ordered_by_the_last_value(runs: list[Run], ax: Any) -> None:
    assert _legend(draw_test_accuracy(ax, runs)) == ["4.000  good", "0.500  short", "n/c  away"]
    lines = _legend(draw_train_loss(Figure().add_subplot(), runs))
    assert [one.split()[1] for one in lines] == ["good", "short", "away"]


def test_of_many_runs_the_first_are_named(make_session: Session, write: Write, ax: Any) -> None:
    for number in range(70):
        path = write(f"{number}.log", make_session(0, 100 + 100 * (number == 42)))
    runs = read_runs([path.parent])
    draw_test_accuracy(ax, runs)
    assert len(_curves(ax)) == 70
    assert len(_legend(ax)) == 61
    assert (_legend(ax)[0], _legend(ax)[-1]) == ("0.200  42", "and 10 more")


def test_a_run_looks_the_same_in_every_plot(runs: list[Run]) -> None:
    looks = {
        tuple(one.get_color() for one in _curves(draw(Figure().add_subplot(), runs, View()))) for draw in PLOTS.values()
    }
    assert looks == {COLORS[:3]}
    assert len({style(place) for place in range(21)}) == 21


def test_the_spike_of_a_long_curve_is_drawn(make_session: Session, write: Write, ax: Any) -> None:
    run = read_runs([write("net.log", make_session(0, 200_000, loss=lambda at: 9.0 if at == 100_020 else 1.0))])[0]
    draw_train_loss(ax, [run], View(window=1))
    (line,) = _curves(ax)
    assert len(line.get_xdata()) < 6_001 < 10_001 == len(run.curve("loss", "train"))
    assert dict(zip(*line.get_data(), strict=True))[100_020] == 9.0


def test_the_train_loss_is_smoothed_over_its_raw_line(runs: list[Run], ax: Any) -> None:
    draw_train_loss(ax, runs, View(window=21))
    raw, smoothed = _curves(ax, "raw")[1], _curves(ax)[1]
    values = runs[1].curve("loss", "train")["value"].to_numpy()
    np.testing.assert_allclose(raw.get_ydata(), values)
    assert smoothed.get_ydata()[50] == pytest.approx(values[40:61].mean())
    assert raw.get_alpha() < 0.4
    assert raw.get_zorder() < smoothed.get_zorder()


def test_what_runs_away_does_not_press_the_others_flat(runs: list[Run], ax: Any) -> None:
    draw_test_loss(ax, runs)
    assert ax.get_ylim()[1] < 3
    (mark,) = _curves(ax, "runaway")
    assert mark.get_xdata().tolist() == [100]
    assert mark.get_ydata().tolist() == [ax.get_ylim()[1]]


def test_axes_have_their_units(runs: list[Run], make_session: Session, write: Write) -> None:
    def told(x: str, some: list[Run]) -> tuple[str, float]:
        ax = draw_test_accuracy(Figure().add_subplot(), some, View(x))
        return ax.get_xlabel(), float(_curves(ax)[-1].get_xdata()[-1])

    some = runs[1:2]
    assert told("iteration", some) == ("iterations", 4000)
    assert told("epoch", some) == ("epochs", 40)
    assert told("seconds", some) == ("training time, minutes", pytest.approx(4000 / 60, rel=0.01))
    long = read_runs([write("long/net.log", make_session(0, 20_000))])
    assert told("seconds", long) == ("training time, hours", pytest.approx(20_000 / 3600, rel=0.01))
    with pytest.raises(InputError, match=r"'days': choose from iteration, epoch, seconds"):
        told("days", some)


def test_thousands_are_k(make_session: Session, write: Write, ax: Any) -> None:
    draw_test_accuracy(ax, read_runs([write("net.log", make_session(0, 20_000))]))
    labels = [one.get_text() for one in ax.get_xticklabels()]
    assert {"5K", "10K", "20K"} <= set(labels)


def test_resumes_are_marked_on_request(runs: list[Run], ax: Any) -> None:
    assert _curves(draw_test_accuracy(Figure().add_subplot(), runs), "resumes") == []
    (mark,) = _curves(draw_test_accuracy(ax, runs, View(resumes=True)), "resumes")
    assert (mark.get_xdata().tolist(), mark.get_ydata().tolist()) == ([2900], [2.9])
    assert _legend(ax)[-1] == "resumed"


def test_log_axes_on_request(runs: list[Run], ax: Any) -> None:
    draw_train_loss(ax, runs, View(log_x=True, log_y=True))
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert draw_test_loss(Figure().add_subplot(), runs).get_yscale() == "linear"
    assert draw_learning_rate(Figure().add_subplot(), runs).get_yscale() == "log"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["$x_$", "_hidden", "$\\bad{$", "<img src=x onerror=alert(1)>", "a\nb", "x" * 90])
def test_any_name_is_shown(make_session: Session, write: Write, tmp_path: Path, name: str) -> None:
    runs = read_runs([write(f"{name}.log", make_session(0, 300))])
    save_plots(runs, tmp_path, formats=["svg"])
    (shown,) = _legend(draw_test_accuracy(Figure().add_subplot(), runs))
    assert shown[7:12] == name.replace("\n", " ")[:5]
    assert len(shown) < 60


@pytest.mark.slow
def test_files_are_what_they_are_called(runs: list[Run], tmp_path: Path) -> None:
    view = View("epoch", log_x=True, resumes=True)
    paths = save_plots(runs, tmp_path / "plots", view, formats=["png", "svg", "pdf"])
    assert sorted(one.name for one in paths) == sorted(
        f"{name}.{suffix}" for name in PLOTS for suffix in ("png", "svg", "pdf")
    )
    for path in paths:
        start = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[path.suffix]
        assert path.read_bytes().startswith(start)
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")  # noqa: S314 - our own file
    again = save_plots(runs, tmp_path / "again", view, formats=["png", "svg", "pdf"])
    assert [one.read_bytes() for one in again] == [one.read_bytes() for one in paths]
    with pytest.raises(InputError, match=r"'gif': choose from png, svg, pdf"):
        save_plots(runs, tmp_path, formats=["gif"])


def test_a_run_with_nothing_to_draw_is_passed_over(make_session: Session, write: Write, ax: Any) -> None:
    write("empty.log", make_session(0, -1))
    write("sick.log", make_session(0, 200, loss=lambda _: math.nan))
    path = write("good.log", make_session(0, 200))
    runs = read_runs([path.parent])
    assert len(runs) == 3
    for draw in PLOTS.values():
        draw(Figure().add_subplot(), runs, View())
    save_plots([run for run in runs if run.status == "empty"], path.parent / "plots")


# What the colour-blind see of linear RGB: Machado, Oliveira, Fernandes, IEEE TVCG 2009, severity 1.
BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def _lab(linear: Any) -> Any:
    scaled = TO_XYZ @ np.clip(linear, 0, 1) / (TO_XYZ @ np.ones(3))
    roots = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * roots[1] - 16, 500 * (roots[0] - roots[1]), 200 * (roots[1] - roots[2])])


@pytest.mark.parametrize("kind", BLIND)
def test_the_colour_blind_tell_the_colours_apart(kind: str) -> None:
    def seen(color: str) -> Any:
        values = np.array(to_rgb(color))
        linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
        return _lab(np.array(BLIND[kind]) @ linear)

    distances = [np.linalg.norm(seen(one) - seen(other)) for one, other in itertools.combinations(COLORS, 2)]
    assert min(distances) > 10  # 2.3 is a difference that one can just see
    assert len(DASHES) == 3


def test_the_accuracy_axis_opens_on_where_the_curves_end(make_session: Session, write: Write, ax: Any) -> None:
    text = make_session(0, 4000, loss=lambda _: math.nan).replace("accuracy = ", "accuracy = 0.00")
    (sick,) = read_runs([write("sick.log", text)])
    good = read_runs([write("good.log", make_session(0, 4000))])
    draw_test_accuracy(ax, [*good, sick])
    low, high = ax.get_ylim()
    assert 1.8 < low < 2.0  # half of the way to 4,000 iterations
    assert 4.0 < high < 4.2
    (mark,) = _curves(ax, "runaway")
    assert (mark.get_marker(), mark.get_ydata()[0]) == ("v", low)


def test_runs_of_several_batch_sizes_are_compared_by_epochs(make_session: Session, write: Write) -> None:
    write("a.log", make_session(0, 400))
    path = write("b.log", make_session(0, 400).replace("batch_size: 32", "batch_size: 64"))
    assert usual_x(read_runs([path.parent], train_size=3200)) == "epoch"
    assert usual_x(read_runs([path.parent])) == "iteration"
    assert usual_x(read_runs([path], train_size=3200)) == "iteration"


def test_what_a_plot_lacks_is_said(make_session: Session, write: Write, tmp_path: Path) -> None:
    for number in range(7):
        path = write(f"untested{number}.log", make_session(0, 90).replace("Testing", "Resting"))
    write("empty.log", make_session(0, -1))
    write("good.log", make_session(0, 200))
    said: list[str] = []
    save_plots(read_runs([path.parent]), tmp_path, each=True, left_out=said.append)
    some = ", ".join(f"untested{number}" for number in range(5))
    assert said == [
        "left out of test_accuracy, test_loss, train_loss, learning_rate: empty (no such numbers in the log)",
        f"left out of test_accuracy, test_loss: {some} and 2 more (no such numbers in the log)",
    ]


@pytest.mark.parametrize(
    ("loss", "without", "view", "absent", "why"),
    [
        (
            _noisy,
            "",
            View("epoch"),
            [*PLOTS],
            "no such numbers in the log, or epochs that are not known: --train-size N",
        ),
        (_noisy, "Testing", View(), ["test_accuracy", "test_loss"], "no such numbers in the log"),
        (lambda _: math.nan, "", View(), ["test_loss", "train_loss"], "no such numbers in the log"),
        (
            lambda at: -1 - _noisy(at),
            "",
            View(log_y=True),
            ["test_loss", "train_loss"],
            "no such numbers in the log, or none above 0 for --log",
        ),
        (
            _noisy,
            "",
            View(xlim=(1000, 2000)),
            [*PLOTS],
            "no such numbers in the log, or none within --xlim 1000,2000",
        ),
        (
            _noisy,
            "Testing",
            View(log_x=True, xlim=(0.1, 5)),
            [*PLOTS],
            "no such numbers in the log, or none above 0 for --log, or none within --xlim 0.1,5",
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_no_picture_is_empty(
    make_session: Session,
    write: Write,
    tmp_path: Path,
    loss: Callable[[int], float],
    without: str,
    view: View,
    absent: list[str],
    why: str,
) -> None:
    for number in range(2):
        text = make_session(0, 200 + 100 * number, loss=loss)
        path = write(f"{number}.log", text.replace(without, "Resting") if without else text)
    said: list[str] = []
    paths = save_plots(read_runs([path.parent]), tmp_path / "plots", view, formats=["svg"], left_out=said.append)
    assert [one.stem for one in paths] == [name for name in PLOTS if name not in absent]
    assert all(one.is_file() for one in paths)
    assert said == [f"not drawn: {', '.join(absent)} of 0, 1 ({why})"]


@pytest.mark.filterwarnings("error")
def test_limits_that_leave_a_part_of_a_curve_leave_its_picture(
    make_session: Session, write: Write, tmp_path: Path
) -> None:
    write("a.log", make_session(0, 200))
    runs = read_runs([write("b.log", make_session(0, 1000)).parent])
    said: list[str] = []
    for view in (View(xlim=(910, 915)), View(xlim=(-5, 0)), View(xlim=(110, 115), log_x=True), View(ylim=(5, 6))):
        paths = save_plots(runs, tmp_path / "plots", view, formats=["svg"], left_out=said.append)
        assert ([one.stem for one in paths], said) == ([*PLOTS], [])


@pytest.mark.parametrize(
    ("view", "ylims", "said"),
    [
        (View(log_x=True, xlim=(0, 100)), {}, "--xlim 0,100: .* leave out --log x"),
        (View(ylim=(-1, 1)), {}, "--ylim learning_rate=-1,1: "),
        (View(log_y=True), {"train_loss": (0.0, 2.0)}, "--ylim train_loss=0,2: .* leave out --log y"),
    ],
)
def test_a_logarithmic_axis_has_no_0(
    runs: list[Run], tmp_path: Path, view: View, ylims: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        save_plots(runs, tmp_path, view, ylims=ylims)


def test_the_picture_that_a_call_does_not_draw_is_said_to_be_old(
    make_session: Session, write: Write, tmp_path: Path
) -> None:
    log = write("a.log", make_session(0, 200))
    (first, second) = (
        in_process.run("merge-logs", log, "--plot", "--out", tmp_path / "out", *more) for more in ([], ["--x", "epoch"])
    )
    assert (first.returncode, second.returncode) == (0, 0)
    not_drawn, old = second.stderr.splitlines()
    assert not_drawn.endswith("--train-size N)")
    assert old.startswith("of an earlier call, not renewed by this one: ")
    assert all(f"{name}.png" in old and f"{name}.png" not in second.stdout for name in PLOTS)


def _looks(changes: Sequence[dict[str, str]], make_session: Session, write: Write) -> list[Look]:
    for number, change in enumerate(changes):
        text = make_session(0, 400)
        for before, after in change.items():
            assert before in text
            text = text.replace(before, after)
        path = write(f"{number}.log", text)
    return looks(read_runs([path.parent], train_size=3200))


def test_runs_of_one_number_have_colours_in_its_order(make_session: Session, write: Write) -> None:
    sizes = [{"batch_size: 32": f"batch_size: {size}"} for size in (64, 8, 256, 16)]
    found = _looks(sizes, make_session, write)
    assert {one.dash for one in found} == {"solid"}
    light = [
        sum(int(one.color[at : at + 2], 16) * share for at, share in ((1, 0.3), (3, 0.59), (5, 0.11))) for one in found
    ]
    assert np.argsort(light).tolist() == [1, 3, 0, 2]  # 8, 16, 64, 256


def test_rates_of_one_batch_size_are_dashes_of_one_colour(make_session: Session, write: Write) -> None:
    sizes = [{"batch_size: 32": f"batch_size: {size}"} for size in (64, 8, 256)]
    found = _looks([*sizes, {**sizes[1], "base_lr: 0.01": "base_lr: 0.001"}], make_session, write)
    assert found[1].color == found[3].color
    assert (found[1].dash, found[3].dash) == ("solid", "dash")
    assert len({one.color for one in found}) == 3


def test_runs_that_differ_in_more_have_colours_without_order(make_session: Session, write: Write) -> None:
    sizes = [{"batch_size: 32": f"batch_size: {size}", "num_output: 10": f"num_output: {size}"} for size in (1, 2, 3)]
    assert tuple(one.color for one in _looks(sizes, make_session, write)) == COLORS[:3]


def test_more_than_ten_curves_have_markers(make_session: Session, write: Write, ax: Any) -> None:
    for number in range(11):
        path = write(f"{number}.log", make_session(0, 400))
    runs = read_runs([path.parent])
    draw_test_accuracy(ax, runs[:10])
    assert not {one.get_marker() for one in _curves(ax)} & set(MARKERS)
    more = Figure().add_subplot()
    draw_test_accuracy(more, runs)
    assert len({(one.get_color(), one.get_linestyle(), one.get_marker()) for one in _curves(more)}) == 11
    assert all(one.get_marker() in MARKERS for one in _curves(more))


def test_limits_on_request(runs: list[Run], ax: Any, tmp_path: Path) -> None:
    draw_test_accuracy(ax, runs, View(xlim=(100, 200), ylim=(0.25, 0.75)))
    assert (ax.get_xlim(), ax.get_ylim()) == ((100, 200), (0.25, 0.75))


@pytest.mark.parametrize(
    "view",
    [
        View("seconds", log_x=True, xlim=(1, 5), ylim=(1, 2)),  # the curve is above at 0, which no such axis has
        View("iteration", xlim=(200, 300), ylim=(0.1, 0.2)),  # and above at 0, left of the axes
    ],
)
@pytest.mark.filterwarnings("error")
def test_no_mark_stands_beside_the_axes(view: View, make_session: Session, write: Write) -> None:
    path = write("a.log", make_session(0, 400))
    runs = read_runs([path])
    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = draw_train_loss(figure.add_subplot(), runs, view)
    figure.draw_without_rendering()
    left, right = ax.get_xlim()
    assert all(left <= at <= right for mark in _curves(ax, "runaway") for at in mark.get_xdata())
    legend = ax.get_legend()
    assert legend is not None
    assert legend.get_window_extent().x1 <= figure.bbox.x1
    assert ax.get_window_extent().width > figure.bbox.width / 3


def test_a_logarithmic_axis_names_plain_numbers(make_session: Session, write: Write) -> None:
    runs = read_runs([write("a.log", make_session(0, 400))])
    for limits, named in (((1, 5), {"2", "4"}), ((10, 400), {"20", "50", "200"})):
        figure = Figure(figsize=(6, 4))
        ax = draw_train_loss(figure.add_subplot(), runs, View("iteration", log_x=True, xlim=limits))
        figure.draw_without_rendering()
        ticks = {one.get_text() for one in ax.get_xticklabels(which="both")}
        assert named <= ticks
        assert not any("times" in one for one in ticks)
