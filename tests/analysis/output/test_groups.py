"""Runs that differ only in their seed: one row with mean and spread, and what chance cannot tell from the best."""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import in_process
import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from caffebench.analysis import read_runs
from caffebench.analysis.output.plots import draw_test_accuracy, save_plots
from caffebench.analysis.output.report import report_data
from caffebench.analysis.output.table.formats import as_latex
from caffebench.analysis.output.table.results_table import table_rows
from caffebench.analysis.runs.groups import group_runs

Session = Callable[..., str]
Write = Callable[..., Path]


@pytest.fixture
def run(make_session: Session, write: Write) -> Callable[..., Path]:
    """A log: the accuracy at 300 is ``accuracy``, that of header and seed if there are such."""

    def made(
        name: str, accuracy: float, seed: int | None = None, header: dict[str, object] | None = None, **more: object
    ) -> Path:
        text = make_session(0, 300, **more).replace("accuracy = 0.3", f"accuracy = {accuracy}")
        if seed is not None:
            text = text.replace('type: "Data" top', 'type: "Data" top').replace(
                "base_lr", f"random_seed: {seed}\nbase_lr", 1
            )
        text = text.replace('"snapshots/net"', f'"snapshots/{name}"')
        if header:
            event = json.dumps({"run": name, "header": header, "pid": 100})
            text = f"I0406 04:34:52.000000   100 _caffe.cpp:68] caffebench: run {event}\n{text}"
        return write(f"{name}.log", text)

    return made


def merge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return in_process.run("merge-logs", *arguments)


def test_own_runs_of_one_variant(run: Callable[..., Path], tmp_path: Path) -> None:
    header = {"sweep": "s", "variant": "good", "label": "Good"}
    values = [0.81, 0.83, 0.82]
    for seed, value in enumerate(values, 1):
        run(f"good_seed{seed}", value, seed, header)
    for seed, value in enumerate([0.79, 0.83], 1):
        run(f"near_seed{seed}", value, seed, header | {"variant": "near", "label": "Near"})
    for seed, value in enumerate([0.71, 0.72], 1):
        path = run(f"bad_seed{seed}", value, seed, header | {"variant": "bad", "label": "Bad"})
    done = merge(path.parent, "--out", tmp_path / "out", "--table")
    assert done.returncode == 0, done.stderr
    assert "| Good | **0.820 ± 0.010 (3)** |" in done.stdout
    assert "| Near | **0.810 ± 0.028 (2)** |" in done.stdout
    assert "| Bad | 0.715 ± 0.007 (2) |" in done.stdout
    assert "Welch's t-test" in done.stdout
    (bad, good, _) = sorted(csv.DictReader((tmp_path / "out/groups.csv").open()), key=lambda row: row["variant"])
    assert (good["sweep"], good["label"], good["runs"], good["converged"]) == ("s", "Good", "3", "3")
    assert float(good["accuracy_mean"]) == pytest.approx(0.82)
    assert float(good["accuracy_std"]) == pytest.approx(statistics.stdev(values))
    assert float(bad["best_accuracy_mean"]) == pytest.approx(0.715)
    rows = list(csv.DictReader((tmp_path / "out/summary.csv").open()))
    assert [(row["variant"], row["seed"]) for row in rows if row["run"].startswith("near")] == [
        ("near", "1"),
        ("near", "2"),
    ]
    each = merge(path.parent, "--out", tmp_path / "out", "--table", "--each")
    assert "±" not in each.stdout
    assert each.stdout.count("| Good (good_seed") == 3


def test_runs_that_did_not_converge_are_counted(run: Callable[..., Path]) -> None:
    header = {"sweep": "s", "variant": "v", "label": "V"}
    run("a", 0.8, 1, header)
    run("b", 0.7, 2, header)
    path = run("c", 0.1, 3, header, loss=lambda _: float("nan"))
    (line,) = table_rows(read_runs([path.parent]))
    assert (line.accuracy, line.accuracy_runs, line.runs) == ("0.750", 2, 3)
    assert line.comment.endswith("2 of 3 converged, 2 not at their end")
    assert r"0.750 $\pm$ 0.071 (2)" in as_latex([line])


def test_strangers_runs_that_differ_only_in_their_seed(run: Callable[..., Path], write: Write) -> None:
    run("net_s1", 0.8, 1)
    run("net_s2", 0.7, 2)
    path = run("net_s2_again", 0.7, 2)
    other = run("wide_s1", 0.9, 1)
    other.write_text(other.read_text().replace("num_output: 10", "num_output: 20"))
    groups = group_runs(read_runs([path.parent]))
    assert sorted([run.name for run in group.runs] for group in groups) == [
        ["net_s1", "net_s2"],
        ["net_s2_again"],
        ["wide_s1"],
    ]
    assert [group.label for group in groups if len(group.runs) > 1] == ["net_s"]


NET_OF_40_KB = "".join(
    f'  layer {{ name: "conv{n}" type: "Convolution" bottom: "data" top: "x{n}" }}\n' for n in range(600)
)


@pytest.mark.parametrize(
    ("old", "new", "together"),
    [
        ("Using GPUs 0", "Using GPUs 0, 1", False),  # twice the batch
        ("base_lr: 0.01", "base_lr: 0.02", False),
        ("display: 20", "device_id: 1\ndisplay: 40", True),
        ("Starting", "Finetuning from other.caffemodel\nStarting", False),
        ("batch_size: 32", "batch_size: 64", False),
    ],
)
def test_strangers_runs_are_seeds_where_nothing_else_differs(
    run: Callable[..., Path], old: str, new: str, together: bool
) -> None:
    run("net_s1", 0.8, 1)
    path = run("net_s2", 0.7, 2)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert len(group_runs(read_runs([path.parent]))) == (1 if together else 2)


def test_a_rate_that_was_changed_by_hand_at_a_resume_makes_another_training(
    run: Callable[..., Path], make_session: Session
) -> None:
    run("net_s1", 0.8, 1)
    path = run("net_s2", 0.7, 2)
    later = make_session(300, 500, pid=7, at=datetime(2016, 4, 7), resume=True)
    later = later.replace("snapshots/net", "snapshots/net_s2").replace("base_lr", "random_seed: 2\nbase_lr")
    path.write_text(path.read_text().replace("base_lr: 0.01", "base_lr: 0.1") + later)
    runs = read_runs([path.parent])
    assert [one.config.base_lr for one in runs] == [0.01, 0.01]
    assert len(group_runs(runs)) == 2
    path.write_text(path.read_text().replace("base_lr: 0.1\n", "base_lr: 0.01\n"))
    assert len(group_runs(read_runs([path.parent]))) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [("source: 'test'", "source: 'train'"), ("type: 'Accuracy'", "type: 'Accuracy' accuracy_param { top_k: 5 }")],
)
def test_what_is_tested_otherwise_is_no_seed(run: Callable[..., Path], old: str, new: str) -> None:
    line = "I0406 04:34:54.000000   100 net.cpp:49] Initializing net from parameters: \n"
    nets = [f"{line}state {{\n  phase: {phase}\n}}\nlayer {{ type: 'Data' source: '{source}' }}\n" for phase, source in
            (("TRAIN", "train"), ("TEST", "train"), ("TEST", "test"))]  # fmt: skip
    built = "".join(nets) + "layer { type: 'Accuracy' }\n" + line.replace("Initializing net from parameters: ", "built")
    paths = [run("net_s1", 0.8, 1), run("net_s2", 0.7, 2)]
    for path in paths:
        head, start, rest = path.read_text().partition("I0406 04:34:55.000000   100 solver.cpp:237] Starting")
        assert start
        path.write_text(head + built + start + rest)
    assert len(group_runs(read_runs(paths))) == 1
    assert paths[1].read_text().count(old) == 1
    paths[1].write_text(paths[1].read_text().replace(old, new))
    assert len(group_runs(read_runs(paths))) == 2


def test_a_seed_that_is_not_at_its_end_is_left_out(run: Callable[..., Path], tmp_path: Path) -> None:
    paths = [run(f"net_s{seed}", accuracy, seed, end="Optimization Done.") for seed, accuracy in ((1, 0.8), (2, 0.9))]
    early = run("net_s3", 0.1, 3)
    early.write_text(early.read_text().partition("Iteration 40, loss")[0])
    (group,) = group_runs(read_runs([*paths, early]))
    assert [one.name for one in group.converged] == ["net_s1", "net_s2"]
    done = merge(*paths, early, "--out", tmp_path / "out", "--table")
    assert "| net_s | **0.850 ± 0.071 (2)** |" in done.stdout
    assert "1 not at their end, left out |" in done.stdout
    under_way = [paths[0].read_text().replace("Optimization Done.", "still on"), paths[1].read_text()]
    for path in paths:
        path.write_text(path.read_text().replace("Optimization Done.", "still on"))
    assert under_way[0] == paths[0].read_text()
    (group,) = group_runs(read_runs(paths))
    (line,) = table_rows(read_runs(paths))
    assert len(group.converged) == 2
    assert line.comment.endswith("2 not at their end")


def test_losses_of_any_size_have_figures_in_groups_csv(run: Callable[..., Path], tmp_path: Path) -> None:
    for seed, loss in enumerate((4.45e-7, 5.45e-7, 6.45e-7), 1):
        path = run(f"net_s{seed}", 0.5, seed, loss=lambda _, loss=loss: loss)
    assert merge(path.parent, "--out", tmp_path / "out").returncode == 0
    (group,) = csv.DictReader((tmp_path / "out/groups.csv").open())
    assert (group["loss_mean"], group["loss_std"]) == ("5.45e-07", "1e-07")


def test_seeds_whose_names_have_nothing_in_common_are_named(run: Callable[..., Path], tmp_path: Path) -> None:
    run("baseline", 0.8, 1)
    path = run("augmented", 0.7, 2)
    done = merge(path.parent, "--out", tmp_path / "out", "--table")
    assert "| augmented, baseline | **0.750" in done.stdout
    assert "augmented, baseline: taken for seeds of one training" in done.stderr
    run("net_s1", 0.7, 3)
    path = run("net_s2", 0.7, 4)
    for one in path.parent.glob("net_*"):
        one.write_text(one.read_text().replace("base_lr: 0.01", "base_lr: 0.1"))
    done = merge(path.parent, "--out", tmp_path / "out", "--table")
    assert done.stderr.count("taken for seeds") == 1


def test_a_net_that_is_cut_between_two_layers_is_cut(make_session: Session, write: Write) -> None:
    layer = '  layer { name: "l" type: "ReLU" bottom: "data" top: "data" }\n'
    text = make_session(0, 200)
    said = "I0406 04:34:54.000000   100 net.cpp:58] Initializing net from parameters: \n"
    net = layer.replace('"l"', f'"{"l" * (29_921 % len(layer) + 1)}"') + layer * (29_921 // len(layer) - 1)
    for length, cut in ((29_921, True), (29_921 - 30 * len(layer), False)):
        shown = net[29_921 - length :] if length < 29_921 else net
        shown = shown[shown.index("  layer") :]
        (one,) = read_runs([write("net.log", text.replace("I0406 04:34:55", f"{said}{shown}I0406 04:34:55", 1))])
        assert one.config.cut == cut, len(shown)


@pytest.mark.parametrize("cut", [False, True])
def test_nets_that_glog_cut_may_differ_in_what_is_missing(run: Callable[..., Path], cut: bool) -> None:
    for seed in (1, 2):
        path = run(f"net_s{seed}", 0.8, seed)
        text = path.read_text().replace("net_param {\n", f"net_param {{\n{NET_OF_40_KB}")
        begin, end = text.index("test_iter"), text.index("I0406 04:34:55")
        assert end - begin > 30_000
        path.write_text(text[: begin + 30_000] + "\n" + text[end:] if cut else text)
    assert len(group_runs(read_runs([path.parent]))) == (2 if cut else 1)


@pytest.mark.parametrize("nets", [["abc", "abc"], ["abc", "abd"]])
def test_own_runs_of_any_solver_are_seeds_however_long_the_net_is(run: Callable[..., Path], nets: list[str]) -> None:
    for seed, net in enumerate(nets, 1):
        path = run(f"resnet_seed{seed}", 0.8, seed, {"label": "ResNet"})
        said = {"run": "x", "header": {}, "pid": 100, "identity": {"net": net, "options": {}}}
        before, _, rest = path.read_text().partition("caffebench: run ")
        text = f"{before}caffebench: run {json.dumps(said)}\n{rest.partition(chr(10))[2]}"
        text = text.replace("net_param {\n", f"net_param {{\n{NET_OF_40_KB}")
        path.write_text(text[: text.index("test_iter") + 30_000] + "\n" + text[text.index("I0406 04:34:55") :])
    runs = read_runs([path.parent])
    assert all(one.config.cut for one in runs)
    assert len(group_runs(runs)) == len(set(nets))


@pytest.mark.parametrize(
    ("key", "value"), [("options", {"init": "lsuv"}), ("net", "fedcba"), ("weight_decay", "0.001"), ("", "")]
)
def test_own_runs_of_one_variant_that_differ_in_more_than_their_seed(
    run: Callable[..., Path], key: str, value: object
) -> None:
    identity: dict[str, object] = {"net": "abcdef", "options": {}}
    header = {"sweep": "s", "variant": "v", "label": "V"}
    for seed in (1, 2):
        path = run(f"v_seed{seed}", 0.8, seed, header)
        said = identity | ({key: value} if seed == 2 else {})
        text = path.read_text().replace('"pid": 100}', f'"pid": 100, "identity": {json.dumps(said)}}}')
        if seed == 2:
            text = text.replace("data_param { ", 'data_param { source: "/elsewhere/train" ')  # on another machine
            text = text.replace("base_lr", f"{key}: {value}\nbase_lr") if key == "weight_decay" else text
        path.write_text(text)
    runs = read_runs([path.parent])
    assert len(group_runs(runs)) == (2 if key else 1)
    assert [one.header.get("init") for one in runs] == [None, "lsuv" if key == "options" else None]


def test_groups_that_are_called_the_same_are_told_apart(run: Callable[..., Path], tmp_path: Path) -> None:
    header = {"sweep": "s", "variant": "v", "label": "V"}
    for rate in ("0.01", "0.1"):
        for seed in (1, 2):
            path = run(f"lr{rate}_v_seed{seed}", 0.8, seed, header)
            path.write_text(path.read_text().replace("base_lr: 0.01", f"base_lr: {rate}"))
    alone = run("other", 0.9, 1, {**header, "variant": "w"})
    done = merge(path.parent, "--out", tmp_path / "out", "--table")
    names = [line.split(" | ")[0] for line in done.stdout.splitlines() if line.startswith("| V")]
    assert names == ["| V (lr0.01_v)", "| V (lr0.1_v)", "| V (other)"]
    ax = draw_test_accuracy(Figure().add_subplot(), group_runs(read_runs([path.parent])))
    assert {one.get_text().partition("V ")[2] for one in ax.get_legend().get_texts()} >= {"(lr0.01_v) (2)", "(other)"}
    assert [one.label for one in group_runs(read_runs([alone, path]))] == ["V (lr0.1_v_seed2)", "V (other)"]


def test_groups_whose_names_begin_alike_are_told_apart(run: Callable[..., Path]) -> None:
    for number, rate in enumerate(("0.01", "0.1", "0.01", "0.1"), 1):
        path = run(f"exp{number}", 0.8, number)
        path.write_text(path.read_text().replace("base_lr: 0.01", f"base_lr: {rate}"))
    assert [one.label for one in group_runs(read_runs([path.parent]))] == ["exp (exp1, exp3)", "exp (exp2, exp4)"]


def test_single_runs_that_are_called_the_same_are_told_apart(run: Callable[..., Path], tmp_path: Path) -> None:
    header = {"sweep": "s", "variant": "v", "label": "V"}
    for seed in (1, 2):
        run(f"v_seed{seed}", 0.8, seed, header)
    path = run("w", 0.9, 1, header | {"variant": "w", "label": "W"})
    runs = read_runs([path.parent])
    names = ["V (v_seed1)", "V (v_seed2)", "W"]
    assert [one["label"] for one in report_data(runs)["runs"]] == names
    assert [one.name for one in table_rows(runs, each=True)] == names
    with mpl.rc_context({"svg.fonttype": "none"}):
        save_plots(runs, tmp_path, formats=["svg"], each=True)
    assert "V (v_seed2)" in (tmp_path / "test_accuracy.svg").read_text()


def test_runs_of_which_too_little_is_known_stay_apart(write: Write, tmp_path: Path) -> None:
    line = "I0406 04:34:53.000000   100 solver.cpp:237] Iteration {}, loss = 1\n"
    for name in ("a", "b"):
        path = write(f"{name}.log", "".join(line.format(at) for at in (0, 20, 40)))
    assert [len(group.runs) for group in group_runs(read_runs([path.parent]))] == [1, 1]
    assert merge(path.parent, "--out", tmp_path / "out").returncode == 0
    assert not (tmp_path / "out/groups.csv").exists()


def test_the_one_of_a_group_that_converged_is_counted_in_the_legend(run: Callable[..., Path]) -> None:
    header = {"sweep": "s", "variant": "v", "label": "V"}
    run("a", 0.8, 1, header)
    path = run("b", 0.1, 2, header, loss=lambda _: float("nan"))
    ax = draw_test_accuracy(Figure().add_subplot(), group_runs(read_runs([path.parent])))
    assert [one.get_text() for one in ax.get_legend().get_texts()] == ["0.800  V (1 of 2)"]


@pytest.mark.slow
def test_a_group_is_one_line_with_a_band(run: Callable[..., Path], tmp_path: Path) -> None:
    header = {"sweep": "s", "variant": "v", "label": "V"}
    for seed, value in enumerate([0.5, 0.7, 0.9], 1):
        path = run(f"v_seed{seed}", value, seed, header)
    run("never", 0.1, 4, header, loss=lambda _: float("nan"))
    runs = read_runs([path.parent])
    (group,) = group_runs(runs)
    ax = draw_test_accuracy(Figure().add_subplot(), [group])
    (line,) = [one for one in ax.lines if one.get_gid() == "curve"]
    assert line.get_xdata().tolist() == [0, 100, 200, 300]
    assert line.get_ydata()[-1] == pytest.approx(0.7)
    (band,) = [one for one in ax.collections if one.get_gid() == "band"]
    edges = [y for x, y in band.get_paths()[0].vertices if x == 300]
    assert (min(edges), max(edges)) == pytest.approx((0.5, 0.9))
    assert [one.get_text() for one in ax.get_legend().get_texts()] == [
        "0.700 ± 0.200  V (3 of 4)",
        "± standard deviation over seeds",
    ]
    for each, count in ((False, 1), (True, 4)):
        save_plots(runs, tmp_path, formats=["svg"], each=each)
        assert (tmp_path / "train_loss.svg").read_text().count('id="curve') == count
